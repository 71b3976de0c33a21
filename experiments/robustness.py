"""Who minds a learning rate that is off?

Every optimizer runs with a grid of learning rates, each with several seeds. What counts
is how much the loss rises away from the best rate (Wortsman et al. 2023,
arXiv:2309.14322), how many decades of rates are nearly as good, and what is lost by one
rate for all workloads, against SGD with momentum.

    keras-adaptive run robustness --quick
    keras-adaptive run robustness --data adult fashion_mnist --data-home DIR
"""

import sys
from collections.abc import Sequence

from keras_adaptive.commands.experiment import OFFLINE, Experiment
from keras_adaptive.study import Dataset, Protocol, Steps, Study
from keras_adaptive.study.analysis.robustness import robustness
from keras_adaptive.study.design.defaults import default_contenders, default_workload

OPTIMIZERS = ["adagrad", "rmsprop", "adam", "adamw"]


def study(data: Sequence[Dataset], quick: bool) -> Study:
    """Makes the study of some data; the runs that are judged are those of the grid."""
    trials, seeds = (5, 7) if quick else (9, 8)
    budget = Steps(200, every=100) if quick else Steps(1_000, every=250)
    contenders = default_contenders(["adam"] if quick else OPTIMIZERS, trials)
    return Study(
        "robustness",
        workloads=[default_workload(each, budget) for each in data],
        contenders=contenders,
        protocol=Protocol(trials, seeds, seeds=1, reference=contenders[0]),
    )


main = Experiment(
    __doc__,
    data=OFFLINE,
    quick_data=["digits"],
    study=study,
    judge=lambda results: robustness(
        results.runs, results.reference, results.directions
    ),
).main

if __name__ == "__main__":
    sys.exit(main())
