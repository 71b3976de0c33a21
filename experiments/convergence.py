"""Who reaches a given quality in fewer steps, and in less time?

Every optimizer is tuned with the same number of trials. The quality to reach is the one
that tuned SGD with momentum reaches with the median seed. Runs are made one at a time
unless --workers says otherwise, so that their seconds can be compared.

    keras-adaptive run convergence --quick
    keras-adaptive run convergence --data adult fashion_mnist --data-home DIR
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
    trials, seeds = (5, 8) if quick else (9, 10)
    budget = Steps(200, every=10) if quick else Steps(2_000, every=50)
    contenders = default_contenders(["adam"] if quick else OPTIMIZERS, trials)
    return Study(
        "convergence",
        workloads=[default_workload(each, budget) for each in data],
        contenders=contenders,
        protocol=Protocol(trials, seeds=seeds, reference=contenders[0]),
    )


main = Experiment(
    __doc__,
    data=OFFLINE,
    quick_data=["digits", "rare_categories"],
    study=study,
    judge=lambda results: promises.convergence(results.runs, results.reference),
).main

if __name__ == "__main__":
    sys.exit(main())
