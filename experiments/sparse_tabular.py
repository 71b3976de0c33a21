"""Who learns from categories that are rare but tell much?

Categories go through embeddings into a small network. The accuracy on all test rows
stands beside that on the rows with a category that fewer than 20 training rows have. In
the made-up table rare categories tell most, and the best possible accuracy is known.

    keras-adaptive run sparse_tabular --quick
    keras-adaptive run sparse_tabular --data my.csv --target label
"""

import sys
from collections.abc import Sequence
from functools import partial

from keras_adaptive.commands.experiment import Experiment
from keras_adaptive.datasets.rare import rare_slice
from keras_adaptive.study import Dataset, Epochs, Protocol, Study
from keras_adaptive.study.analysis import promises
from keras_adaptive.study.design.defaults import default_contenders, default_workload

OPTIMIZERS = ["adagrad", "rmsprop", "adam", "adamw"]


def study(data: Sequence[Dataset], quick: bool) -> Study:
    """Makes the study of some data."""
    trials, tuning_seeds, seeds = (5, 1, 7) if quick else (9, 3, 10)
    rare = partial(rare_slice, below=20)
    budget = Epochs(4 if quick else 10)
    names = ["adagrad", "adam"] if quick else OPTIMIZERS
    contenders = default_contenders(names, trials)
    return Study(
        "sparse_tabular",
        workloads=[default_workload(each, budget, rare) for each in data],
        contenders=contenders,
        protocol=Protocol(trials, tuning_seeds, seeds, reference=contenders[0]),
    )


main = Experiment(
    __doc__,
    data=["rare_categories"],
    quick_data=["rare_categories"],
    study=study,
    judge=lambda results: promises.sparse(
        results.runs, results.reference, results.directions
    ),
).main

if __name__ == "__main__":
    sys.exit(main())
