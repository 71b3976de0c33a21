"""This machine as a site: as many processes as its processors and memory allow."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_adaptive.errors import needs_extra
from keras_adaptive.study.execution.site import Worker
from keras_adaptive.study.execution.worker import LocalWorker, data_files, threads_each

with needs_extra("study"):
    import loky
    import psutil

if TYPE_CHECKING:
    from keras_adaptive.datasets.dataset import Dataset

WORKER_BYTES = 1_000_000_000
"""Memory of a process with Keras, a backend and a small model."""

COPIES = 3
"""Copies of the data in a worker: as read, as fed, and as batches on their way."""

SHARE_OF_MEMORY = 0.5
"""The share of the free memory that the runs of all processes may take."""


@dataclass(frozen=True)
class ThisMachine:
    """Processes of this machine, see `Site`.

    Args:
        files: The files of the datasets, by the workload's name.
        count: The number of processes; each has its share of the processors.
    """

    files: Mapping[str, str]
    count: int

    @property
    def share_of_memory(self) -> float:
        """The share of the free memory that the runs of a process may take."""
        return SHARE_OF_MEMORY / self.count

    def workers(
        self, environment: Mapping[str, str], prepare: Callable[[], None]
    ) -> list[Worker]:
        """Returns processes, see `Site`."""
        threads = threads_each(self.count)
        return [LocalWorker(threads, environment, prepare) for _ in range(self.count)]


@contextmanager
def this_machine(
    data: Mapping[str, Dataset], count: int | None = None
) -> Iterator[ThisMachine]:
    """Keeps the data of a study in files of this machine for the length of a block.

    Args:
        data: The dataset of each workload, by the workload's name.
        count: The number of processes; `None` for as many as can be afforded.
    """
    with data_files(data) as files:
        largest = max(map(os.path.getsize, files.values()))
        yield ThisMachine(files, count or affordable_workers(largest))


def affordable_workers(data_bytes: int) -> int:
    """Returns the number of processes that processors and free memory allow.

    Args:
        data_bytes: Size of the largest dataset.
    """
    free = psutil.virtual_memory().available
    by_memory = int(free / (WORKER_BYTES + COPIES * data_bytes))
    return max(1, min(loky.cpu_count(), by_memory))
