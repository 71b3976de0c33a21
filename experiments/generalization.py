"""Who does better on test data, and loses less from training to test?

Every optimizer is tuned on validation data with seeds of their own and the same number
of trials, and judged on test data with fresh seeds, against tuned SGD with momentum.

    keras-adaptive run generalization --quick
    keras-adaptive run generalization --data adult fashion_mnist --data-home DIR
"""

import sys
from collections.abc import Sequence

from keras_adaptive.commands.experiment import OFFLINE, Experiment
from keras_adaptive.study import Dataset, Protocol, Steps, Study
from keras_adaptive.study.analysis import promises
from keras_adaptive.study.design.defaults import default_contenders, default_workload

OPTIMIZERS = ["adagrad", "rmsprop", "adam", "adamw"]


def study(data: Sequence[Dataset], quick: bool) -> Study:
    """Makes the study of some data."""
    trials, tuning_seeds, seeds = (5, 1, 8) if quick else (9, 2, 12)
    budget = Steps(300, every=50) if quick else Steps(1_000, every=100)
    contenders = default_contenders(["adam"] if quick else OPTIMIZERS, trials)
    return Study(
        "generalization",
        workloads=[default_workload(each, budget) for each in data],
        contenders=contenders,
        protocol=Protocol(trials, tuning_seeds, seeds, reference=contenders[0]),
    )


main = Experiment(
    __doc__,
    data=OFFLINE,
    quick_data=["digits", "breast_cancer", "diabetes"],
    study=study,
    judge=lambda results: promises.generalization(
        results.runs, results.reference, results.directions
    ),
).main

if __name__ == "__main__":
    sys.exit(main())
