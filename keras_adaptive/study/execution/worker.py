"""A process that makes runs, one task at a time, and that is replaced if it dies."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_adaptive.errors import needs_extra
from keras_adaptive.study.execution.scratch import scratch_folder

with needs_extra("study"):
    import joblib
    import loky

if TYPE_CHECKING:
    from keras_adaptive.datasets.dataset import Dataset

THREAD_COUNTS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NPROC"),
)
"""Environment variables from which libraries take their number of threads."""


def threads_each(workers: int) -> int:
    """Returns the number of threads that each of several workers may use."""
    return max(1, loky.cpu_count() // workers)


MEMORY_LIMIT = "KERAS_ADAPTIVE_MEMORY_LIMIT"
"""The environment variable with the bytes that a process may take; may be absent."""

FOLDER = "KERAS_ADAPTIVE_DATA_FOLDER"
"""The environment variable with the folder of files whose names have none."""


class LocalWorker:
    """A process of this machine, see `Worker`.

    Args:
        threads: The number of threads that libraries may use in it.
        environment: Further environment variables of the process.
        prepare: Is called in the process before anything else.
        idle_seconds: The process ends after so long without a call; `None` for never.

    Attributes:
        programs: The programs that the process has been given so far.
    """

    def __init__(
        self,
        threads: int,
        environment: Mapping[str, str],
        prepare: Callable[[], None],
        idle_seconds: float | None = None,
    ) -> None:
        counts = {name: str(threads) for name in THREAD_COUNTS}
        self._environment = counts | dict(environment)
        self._prepare = prepare
        self._idle_seconds = idle_seconds
        self._executor: loky.ProcessPoolExecutor | None = None
        self._started: futures.Future | None = None
        self.programs: set[str] = set()

    @property
    def is_starting(self) -> bool:
        """Whether the process still imports its libraries."""
        return self._started is not None and not self._started.done()

    def call(self, function: Callable[..., Any], *arguments: Any) -> futures.Future:
        """Calls a function, in a new process if the one of before has died since."""
        try:
            return self.start().submit(function, *arguments)
        except BrokenExecutor:
            self.end()
            return self.start().submit(function, *arguments)

    def start(self) -> loky.ProcessPoolExecutor:
        """Starts the process unless it runs."""
        if self._executor is None:
            self._executor = loky.ProcessPoolExecutor(
                max_workers=1,
                timeout=self._idle_seconds,
                initializer=_settle,
                initargs=(os.getpid(), self._prepare),
                env=self._environment,
            )
            self._started = self._executor.submit(os.getpid)
        return self._executor

    def end(self) -> None:
        """Ends the process."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=True)
            self._executor = None
            self.programs.clear()


def _settle(driver: int, prepare: Callable[[], None]) -> None:
    """Prepares a worker, which ignores interrupts and ends with the driver."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == driver:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    prepare()
    gc.freeze()


@contextmanager
def data_files(data: Mapping[str, Dataset]) -> Iterator[dict[str, str]]:
    """Writes datasets to files for the length of a block.

    Args:
        data: The dataset of each workload, by the workload's name.

    Yields:
        The file of each workload.
    """
    with scratch_folder() as folder:
        files = {}
        for number, (name, dataset) in enumerate(data.items()):
            files[name] = str(folder / f"{number}.joblib")
            joblib.dump(dataset, files[name])
        yield files


@lru_cache
def read_data(file: str) -> Dataset:
    """Reads a dataset in a worker, once."""
    return joblib.load(Path(os.environ.get(FOLDER, ""), file), mmap_mode="r")
