"""Which optimizer reaches a given quality in fewer steps, and in less time?

Each optimizer is tuned with the same number of trials. The quality to reach is the one
that tuned SGD with momentum reaches with the median seed. Runs are made one at a time
unless --workers says otherwise, so that their times can be compared.

    keras-adaptive run convergence --quick
    keras-adaptive run convergence --data adult fashion_mnist --data-home DIR

In Python:

    from keras_adaptive.datasets import load_digits
    from keras_adaptive.experiments.convergence import study

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
FULL = Protocol(tuning_trials=9, seeds=10, reference=REFERENCE)
QUICK = Protocol(tuning_trials=5, seeds=8, reference=REFERENCE)


def judge(table: RunTable) -> list[Verdict]:
    """Judges the steps and the seconds to the target."""
    return promises.convergence(table.runs, table.reference)


def study(data: Sequence[Dataset], quick: bool = False) -> Study:
    """Makes the study of some data; `study(data).run()` runs it."""
    protocol = QUICK if quick else FULL
    budget = Steps(200, every=10) if quick else Steps(2_000, every=50)
    names = ["adam"] if quick else OPTIMIZERS
    return Study(
        "convergence",
        workloads=[default_workload(each, budget) for each in data],
        contenders=default_contenders(names, protocol.tuning_trials),
        protocol=protocol,
        judge=judge,
    )


main = Experiment(
    description=__doc__,
    data=OFFLINE,
    quick_data=["digits", "rare_categories"],
    study=study,
).main

if __name__ == "__main__":
    sys.exit(main())
