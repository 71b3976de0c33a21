"""Runs a study of 30 runs on PyTorch, in a process that a test may kill.

It imports everything once. Each line on its standard input starts the study in a child
process: the name of the study, `0` or the number of worker processes, the runner, and
the folder with the store. It answers with the child's id; the child's output goes to
the standard output.
"""

import os
import signal
import sys
import tempfile
from functools import partial

import keras
import numpy as np
from rich.console import Console

from keras_adaptive.commands.options import exit_status
from keras_adaptive.datasets.dataset import Dataset, Split
from keras_adaptive.study import (
    Contender,
    Epochs,
    InProcess,
    Processes,
    Protocol,
    Study,
    Workload,
)
from keras_adaptive.study.ledger.mlflow_ledger import Ledger  # noqa: F401, imported once for all
from keras_adaptive.study.ledger.reach.graph import describe

LEARNING_RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
OPTIMIZERS = ("sgd", "adam", "keras/rmsprop")


def part(seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, 48)
    return Split((rng.normal(size=(48, 5)) + y[:, None]).astype("float32"), y)


def build(seed):
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])


def study(name):
    """Three contenders, each with 5 runs to tune and 5 to judge."""
    workload = Workload(
        "blobs",
        build,
        Dataset("blobs", "made for tests", part(0), part(1), part(2)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch_size=24,
        budget=Epochs(2),
    )
    contenders = [Contender(each, LEARNING_RATES) for each in OPTIMIZERS]
    protocol = Protocol(
        tuning_trials=5, widening_trials=0, seeds=5, reference="sgd", timed_runs=0
    )
    return Study(name, [workload], contenders, protocol)


def run(name, executor, runner):
    console = Console(file=sys.stdout, width=120)
    study(name).run(executor, console, runner=runner)
    return 0


def main():
    describe(keras.optimizers.SGD())  # Keras imports what it needs for that
    for line in sys.stdin:
        name, workers, runner, folder = line.split(maxsplit=3)
        child = os.fork()
        if child:
            print(f"started {child}", flush=True)
            _, status = os.waitpid(child, 0)
            print(f"ended {os.waitstatus_to_exitcode(status)}", flush=True)
            continue
        os.chdir(folder.strip())
        tempfile.tempdir = os.environ["TMPDIR"] = os.getcwd()
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{os.getcwd()}/mlflow.db"
        executor = Processes(int(workers)) if int(workers) else InProcess()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        status = exit_status(partial(run, name, executor, runner))
        sys.stdout.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
