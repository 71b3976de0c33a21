"""Runs by `fit` in several processes, of this machine or of another site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import keras

from keras_adaptive.errors import counted
from keras_adaptive.study.execution.executors import Pool
from keras_adaptive.study.execution.keras_settings import KerasSettings
from keras_adaptive.study.execution.site import Site
from keras_adaptive.study.execution.this_machine import this_machine
from keras_adaptive.study.execution.training import attempt
from keras_adaptive.study.execution.worker import read_data
from keras_adaptive.study.execution.worker_pool import Task, WorkerPool
from keras_adaptive.study.ledger.record import Record

if TYPE_CHECKING:
    from keras_adaptive.datasets.dataset import Dataset


@dataclass(frozen=True)
class Processes:
    """Makes runs in several processes of this machine.

    Each process has its share of the processors, and Keras's backend and settings of
    this one. A run whose process dies is tried once more in a new process, and then
    recorded as failed. Models, losses and optimizers are sent by cloudpickle, so they
    may be defined in a notebook.

    Args:
        count: The number of processes. `None` for as many as the processors and the
            free memory allow, with three copies of the largest dataset in each.

    Raises:
        InputError: If the count is not a whole number above 0.
    """

    count: int | None = None

    def __post_init__(self) -> None:
        """Checks the count."""
        if self.count is not None:
            object.__setattr__(self, "count", counted("Processes", self.count))

    @contextmanager
    def start(self, data: Mapping[str, Dataset]) -> Iterator[Pool]:
        """Opens a pool, see `Executor`."""
        with this_machine(data, self.count) as site, runs_by_fit(site) as pool:
            yield pool


@contextmanager
def runs_by_fit(site: Site) -> Iterator[Pool]:
    """Opens a pool of processes that make runs by `fit`, with this one's Keras.

    Args:
        site: Where the processes are.
    """
    settings = KerasSettings.here()
    environment = settings.environment(keras.backend.backend())
    workers = site.workers(environment, settings.apply)
    with WorkerPool(workers, site.files, attempt_each).open() as pool:
        yield pool


def attempt_each(task: Task, file: str) -> list[Record]:
    """Makes the runs of a task by `fit`, in a worker."""
    data = read_data(file)
    return [attempt(trial, data) for trial in task]
