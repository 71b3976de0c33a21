"""Which optimizer learns best from rare but informative categories?

Categories go through embeddings into a small network. Accuracy is measured on all test
rows, and on the rows with a category that fewer than 20 training rows have. In the
synthetic table rare categories are the most informative, and the best possible accuracy
is known.

    keras-adaptive run sparse_tabular --quick
    keras-adaptive run sparse_tabular --data my.csv --target label

In Python:

    from keras_adaptive.datasets import RareCategories
    from keras_adaptive.experiments.sparse_tabular import study

    results = study([RareCategories().load()], quick=True).run()
    verdicts = results.verdicts()
"""

import sys
from collections.abc import Sequence
from functools import partial

from keras_adaptive.commands.experiment import Experiment
from keras_adaptive.datasets import Dataset, rare_slice
from keras_adaptive.study import Epochs, Protocol, RunTable, Study
from keras_adaptive.study.analysis import promises
from keras_adaptive.study.analysis.verdicts import Verdict
from keras_adaptive.study.design.defaults import default_contenders, default_workload

OPTIMIZERS = ["adagrad", "rmsprop", "adam", "adamw"]
REFERENCE = "keras/sgd-momentum"
FULL = Protocol(tuning_trials=9, tuning_seeds=3, seeds=10, reference=REFERENCE)
QUICK = Protocol(tuning_trials=5, tuning_seeds=1, seeds=7, reference=REFERENCE)


def judge(table: RunTable) -> list[Verdict]:
    """Judges the accuracy on all test rows, and on those with rare categories."""
    return promises.sparse(table.runs, table.reference, table.directions)


def study(data: Sequence[Dataset], quick: bool = False) -> Study:
    """Makes the study of some data; `study(data).run()` runs it."""
    protocol = QUICK if quick else FULL
    budget = Epochs(4 if quick else 10)
    rare = partial(rare_slice, below=20)
    names = ["adagrad", "adam"] if quick else OPTIMIZERS
    return Study(
        "sparse_tabular",
        workloads=[default_workload(each, budget, slices=rare) for each in data],
        contenders=default_contenders(names, protocol.tuning_trials),
        protocol=protocol,
        judge=judge,
    )


main = Experiment(
    description=__doc__,
    data=["rare_categories"],
    quick_data=["rare_categories"],
    study=study,
).main

if __name__ == "__main__":
    sys.exit(main())
