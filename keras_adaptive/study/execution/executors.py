"""Executors: they make the runs of a study, in this process or in several."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import typing
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent import futures
from concurrent.futures import BrokenExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from keras_adaptive.errors import counted, needs_extra
from keras_adaptive.study.execution.scratch import scratch_folder
from keras_adaptive.study.execution.training import attempt
from keras_adaptive.study.execution.trial import Trial, milliseconds
from keras_adaptive.study.ledger.record import Record
from keras_adaptive.terminal import say

with needs_extra("study"):
    import joblib
    import loky
    import psutil
    from rich.console import Console

if TYPE_CHECKING:
    from keras_adaptive.datasets.dataset import Dataset

WORKER_BYTES = 1_000_000_000
"""Memory of a process with Keras, a backend and a small model."""

COPIES = 3
"""Copies of the data in a worker: as read, as fed, and as batches on their way."""

ATTEMPTS = 2
"""The number of attempts at a run whose process dies."""

SECONDS_BETWEEN_NOTES = 5.0
"""So often a line says that processes are still starting."""


class Pool(typing.Protocol):
    """Makes runs while its executor is open. Unfinished runs are not recorded."""

    def submit(self, trial: Trial) -> None:
        """Runs a trial, at once or when a process is free."""

    def results(self) -> Iterator[Record]:
        """Yields the record of each trial when it is done, until none is left.

        More trials may be submitted in between.
        """


class Executor(typing.Protocol):
    """Makes the runs of a study."""

    def start(self, data: Mapping[str, Dataset]) -> AbstractContextManager[Pool]:
        """Opens a pool for the length of a block.

        Args:
            data: The dataset of each workload, by the workload's name.
        """


class InProcess:
    """Makes one run after the other in this process."""

    @contextmanager
    def start(self, data: Mapping[str, Dataset]) -> Iterator[Pool]:
        """Opens a pool, see `Executor`."""
        # Objects that exist already need not be examined after every run.
        gc.freeze()
        try:
            yield _Queue(data)
        finally:
            gc.unfreeze()


class _Queue:
    """Runs that wait for this process."""

    def __init__(self, data: Mapping[str, Dataset]) -> None:
        self._data = data
        self._waiting: deque[Trial] = deque()

    def submit(self, trial: Trial) -> None:
        self._waiting.append(trial)

    def results(self) -> Iterator[Record]:
        while self._waiting:
            trial = self._waiting.popleft()
            yield attempt(trial, self._data[trial.workload.name])


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
        with scratch_folder() as folder:
            files = {}
            for number, (name, dataset) in enumerate(data.items()):
                files[name] = str(folder / f"{number}.joblib")
                joblib.dump(dataset, files[name])
            largest = max(os.path.getsize(file) for file in files.values())
            count = self.count or affordable_workers(largest)
            workers = [_Worker(threads_each(count)) for _ in range(count)]
            try:
                yield _Workers(workers, files)
            finally:
                for worker in workers:
                    worker.end()


def affordable_workers(data_bytes: int) -> int:
    """Returns the number of processes that processors and free memory allow.

    Args:
        data_bytes: Size of the largest dataset.
    """
    free = psutil.virtual_memory().available
    by_memory = int(free / (WORKER_BYTES + COPIES * data_bytes))
    return max(1, min(loky.cpu_count(), by_memory))


def threads_each(workers: int) -> int:
    """Returns the number of threads that each of several workers may use."""
    return max(1, loky.cpu_count() // workers)


class _Worker:
    """A process for one run at a time, which is started again after it has died."""

    def __init__(self, threads: int) -> None:
        self._threads = str(threads)
        self._executor: loky.ProcessPoolExecutor | None = None
        self._started: futures.Future | None = None

    @property
    def is_starting(self) -> bool:
        """Whether the process still imports its libraries."""
        return self._started is not None and not self._started.done()

    def begin(self, trial: Trial, file: str) -> futures.Future:
        """Starts a run, in a new process if the one of before has died since."""
        try:
            return self._begin(trial, file)
        except BrokenExecutor:
            self.end()
            return self._begin(trial, file)

    def _begin(self, trial: Trial, file: str) -> futures.Future:
        if self._executor is None:
            self._executor = loky.ProcessPoolExecutor(
                max_workers=1,
                initializer=_settle,
                initargs=(os.getpid(),),
                env={name: self._threads for name in THREAD_COUNTS},
            )
            self._started = self._executor.submit(os.getpid)
        return self._executor.submit(_attempt, trial, file)

    def end(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=True)
            self._executor = None


THREAD_COUNTS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NPROC"),
)
"""Environment variables from which libraries take their number of threads."""


class _Workers:
    """Runs that wait for a worker, or are made by one."""

    def __init__(self, workers: list[_Worker], files: Mapping[str, str]) -> None:
        self._idle = workers
        self._files = files
        self._waiting: deque[Trial] = deque()
        self._tries: dict[str, int] = {}
        self._console = Console()

    def submit(self, trial: Trial) -> None:
        # Data go by file, which each worker reads once.
        without_data = replace(trial.workload, data=_no_data)
        self._waiting.append(replace(trial, workload=without_data))

    def results(self) -> Iterator[Record]:
        running: dict[futures.Future, tuple[_Worker, Trial, int]] = {}
        while self._waiting or running:
            while self._waiting and self._idle:
                trial, worker = self._waiting.popleft(), self._idle.pop()
                future = worker.begin(trial, self._files[trial.workload.name])
                running[future] = worker, trial, milliseconds()
            for future in self._wait_for_one(running):
                worker, trial, started = running.pop(future)
                self._idle.append(worker)
                try:
                    record = future.result()
                except futures.process.BrokenProcessPool as error:
                    worker.end()
                    tries = self._tries[trial.key] = self._tries.get(trial.key, 0) + 1
                    if tries < ATTEMPTS:
                        self._tell("The process of a run has died. It is made again.")
                        self._waiting.appendleft(trial)
                        continue
                    reason = f"its process died {tries} times: {error}"
                    record = trial.record("failed", started, reason)
                except Exception as error:
                    reason = f"it cannot be sent to a process: {error!r}"
                    record = trial.record("failed", started, reason)
                yield record

    def _wait_for_one(
        self, running: Mapping[futures.Future, tuple[_Worker, Trial, int]]
    ) -> set[futures.Future]:
        """Returns the runs that are done, one or more, and tells what holds them up."""
        began, waited_for = time.monotonic(), 0
        while True:
            done = futures.wait(
                running, SECONDS_BETWEEN_NOTES, futures.FIRST_COMPLETED
            ).done
            if done:
                return done
            workers = [worker for worker, _, _ in running.values()]
            if starting := sum(worker.is_starting for worker in workers):
                waited = f"{time.monotonic() - began:.0f} s"
                self._tell(f"Processes that are still starting: {starting} … {waited}")
            elif waited_for:
                self._tell("All processes have started.")
            waited_for = starting

    def _tell(self, line: str) -> None:
        say(self._console, line)


def _settle(driver: int) -> None:
    """Prepares a worker, which ignores interrupts and ends with the driver."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()

    def watch() -> None:
        while os.getppid() == driver:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _no_data() -> Dataset:
    raise AssertionError("A worker reads the data of a workload from a file.")


@lru_cache
def _read(file: str) -> Dataset:
    return joblib.load(file, mmap_mode="r")


def _attempt(trial: Trial, file: str) -> Record:
    return attempt(trial, _read(file))
