"""Runs by `fit` in several processes of this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_adaptive.errors import counted, needs_extra
from keras_adaptive.study.execution.executors import Pool
from keras_adaptive.study.execution.training import attempt
from keras_adaptive.study.execution.worker import (
    Worker,
    data_files,
    read_data,
    threads_each,
)
from keras_adaptive.study.execution.worker_pool import Task, WorkerPool
from keras_adaptive.study.ledger.record import Record

with needs_extra("study"):
    import loky
    import psutil

if TYPE_CHECKING:
    from keras_adaptive.datasets.dataset import Dataset

WORKER_BYTES = 1_000_000_000
"""Memory of a process with Keras, a backend and a small model."""

COPIES = 3
"""Copies of the data in a worker: as read, as fed, and as batches on their way."""


@dataclass(frozen=True)
class Processes:
    """Makes runs in several processes of this machine.

    Each process has its share of the processors. A run whose process dies is tried
    once more in a new process, and then recorded as failed. Models, losses and
    optimizers are sent by cloudpickle, so they may be defined in a notebook.

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
        with data_files(data) as files:
            count = self.count or affordable_workers(files.largest)
            workers = [Worker(threads_each(count)) for _ in range(count)]
            with WorkerPool(workers, files, _attempt_each).open() as pool:
                yield pool


def affordable_workers(data_bytes: int) -> int:
    """Returns the number of processes that processors and free memory allow.

    Args:
        data_bytes: Size of the largest dataset.
    """
    free = psutil.virtual_memory().available
    by_memory = int(free / (WORKER_BYTES + COPIES * data_bytes))
    return max(1, min(loky.cpu_count(), by_memory))


def _attempt_each(task: Task, file: str) -> list[Record]:
    data = read_data(file)
    return [attempt(trial, data) for trial in task]
