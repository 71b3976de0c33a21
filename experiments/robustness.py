"""Which optimizer tolerates a mistuned learning rate?

Each optimizer runs with a grid of learning rates and several seeds. Three things are
measured against SGD with momentum: how much the loss rises away from the best rate
(Wortsman et al. 2023, arXiv:2309.14322), how many decades of rates are nearly as good,
and how much is lost with one rate for all workloads.

    keras-adaptive run robustness --quick
    keras-adaptive run robustness --data adult fashion_mnist --data-home DIR

In Python:

    from keras_adaptive.datasets import load_digits
    from keras_adaptive.experiments.robustness import study

    results = study([load_digits()], quick=True).run()
    verdicts = results.verdicts()
"""

import sys
from collections.abc import Sequence

from keras_adaptive.commands.experiment import OFFLINE, Experiment
from keras_adaptive.datasets import Dataset
from keras_adaptive.study import Protocol, RunTable, Steps, Study
from keras_adaptive.study.analysis.robustness import robustness
from keras_adaptive.study.analysis.verdicts import Verdict
from keras_adaptive.study.design.defaults import default_contenders, default_workload

OPTIMIZERS = ["adagrad", "rmsprop", "adam", "adamw"]
REFERENCE = "keras/sgd-momentum"

# The runs of the grid decide this promise, so tuning takes most of the seeds.
FULL = Protocol(tuning_trials=9, tuning_seeds=8, seeds=1, reference=REFERENCE)
QUICK = Protocol(tuning_trials=5, tuning_seeds=7, seeds=1, reference=REFERENCE)


def judge(table: RunTable) -> list[Verdict]:
    """Judges the loss away from the best learning rate."""
    return robustness(table.runs, table.reference, table.directions)


def study(data: Sequence[Dataset], quick: bool = False) -> Study:
    """Makes the study of some data; `study(data).run()` runs it."""
    protocol = QUICK if quick else FULL
    budget = Steps(200, every=100) if quick else Steps(1_000, every=250)
    names = ["adam"] if quick else OPTIMIZERS
    return Study(
        "robustness",
        workloads=[default_workload(each, budget) for each in data],
        contenders=default_contenders(names, protocol.tuning_trials),
        protocol=protocol,
        judge=judge,
    )


main = Experiment(
    description=__doc__,
    data=OFFLINE,
    quick_data=["digits"],
    study=study,
).main

if __name__ == "__main__":
    sys.exit(main())
