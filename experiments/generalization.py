"""Which optimizer does better on test data, and loses less from training to test?

Each optimizer is tuned on validation data with the same number of trials, and judged on
test data against tuned SGD with momentum. The seeds that tune are not the seeds that
judge.

    keras-adaptive run generalization --quick
    keras-adaptive run generalization --data adult fashion_mnist --data-home DIR

In Python:

    from keras_adaptive.datasets import load_digits
    from keras_adaptive.experiments.generalization import study

    results = study([load_digits()], quick=True).run()
    verdicts = results.verdicts()
"""

import sys
from collections.abc import Sequence

from keras_adaptive.commands.experiment import OFFLINE, Experiment
from keras_adaptive.datasets import Dataset
from keras_adaptive.study import Protocol, RunTable, Steps, Study
from keras_adaptive.study.analysis import promises
from keras_adaptive.study.analysis.verdicts import Verdict
from keras_adaptive.study.design.defaults import default_contenders, default_workload

OPTIMIZERS = ["adagrad", "rmsprop", "adam", "adamw"]
REFERENCE = "keras/sgd-momentum"
FULL = Protocol(tuning_trials=9, tuning_seeds=2, seeds=12, reference=REFERENCE)
QUICK = Protocol(tuning_trials=5, tuning_seeds=1, seeds=8, reference=REFERENCE)


def judge(table: RunTable) -> list[Verdict]:
    """Judges the test metric, and its distance from the training metric."""
    return promises.generalization(table.runs, table.reference, table.directions)


def study(data: Sequence[Dataset], quick: bool = False) -> Study:
    """Makes the study of some data; `study(data).run()` runs it."""
    protocol = QUICK if quick else FULL
    budget = Steps(300, every=50) if quick else Steps(1_000, every=100)
    names = ["adam"] if quick else OPTIMIZERS
    return Study(
        "generalization",
        workloads=[default_workload(each, budget) for each in data],
        contenders=default_contenders(names, protocol.tuning_trials),
        protocol=protocol,
        judge=judge,
    )


main = Experiment(
    description=__doc__,
    data=OFFLINE,
    quick_data=["digits", "breast_cancer", "diabetes"],
    study=study,
).main

if __name__ == "__main__":
    sys.exit(main())
