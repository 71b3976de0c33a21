"""Where the runs of a study are made: in this process, or in several."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent import futures
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from keras_adaptive.errors import counted, needs_extra
from keras_adaptive.study.execution.training import Trial, attempt, milliseconds
from keras_adaptive.study.ledger.record import Record

with needs_extra("study"):
    import joblib
    import loky
    import psutil

if TYPE_CHECKING:
    from keras_adaptive.datasets.dataset import Dataset

WORKER_BYTES = 1_000_000_000
"""What a process takes with Keras and a backend loaded, and a small model in it."""

COPIES = 3
"""How often a worker holds the data: as read, as fed, and in batches under way."""

ATTEMPTS = 2
"""How often a run is tried whose process dies."""


class Pool(Protocol):
    """Runs that are being made. Whatever ends with it is not recorded."""

    def submit(self, trial: Trial) -> None:
        """Takes a trial to run, at once or when there is room."""

    def results(self) -> Iterator[Record]:
        """Yields the record of each trial when it is done, until none is left.

        Trials may be submitted in between.
        """


class Executor(Protocol):
    """Makes the runs of a study."""

    def start(self, data: Mapping[str, Dataset]) -> AbstractContextManager[Pool]:
        """Opens a pool, for the length of a block.

        Args:
            data: The dataset of each workload, by the workload's name.
        """


class InProcess:
    """Makes one run after the other in this process."""

    @contextmanager
    def start(self, data: Mapping[str, Dataset]) -> Iterator[Pool]:
        # What is there already need not be looked through after every run.
        gc.freeze()
        try:
            yield _Queue(data)
        finally:
            gc.unfreeze()


class _Queue:
    def __init__(self, data: Mapping[str, Dataset]):
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

    Each has its share of the processors. A run whose process dies is tried once
    more, in a new one, and then recorded as failed. Models, losses and optimizers go
    to the processes by cloudpickle, so they may be defined in a notebook.

    Args:
        count: How many processes. `None` for as many as there are processors and as
            the memory that is free now allows, with three copies of the largest
            dataset in each.

    Raises:
        StudyError: If it is not a whole number above 0.
    """

    count: int | None = None

    def __post_init__(self) -> None:
        if self.count is not None:
            counted("Processes", self.count)

    @contextmanager
    def start(self, data: Mapping[str, Dataset]) -> Iterator[Pool]:
        with tempfile.TemporaryDirectory(prefix="keras-adaptive-") as folder:
            files = {}
            for number, (name, dataset) in enumerate(data.items()):
                files[name] = str(Path(folder, f"{number}.joblib"))
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
    """Returns how many processes the processors and the free memory allow.

    Args:
        data_bytes: Size of the largest dataset.
    """
    free = psutil.virtual_memory().available
    by_memory = int(free / (WORKER_BYTES + COPIES * data_bytes))
    return max(1, min(loky.cpu_count(), by_memory))


def threads_each(workers: int) -> int:
    """Returns how many threads each of several workers may compute with."""
    return max(1, loky.cpu_count() // workers)


class _Worker:
    """A process of its own for one run at a time, started anew when it has died."""

    def __init__(self, threads: int):
        self._threads = str(threads)
        self._executor: loky.ProcessPoolExecutor | None = None

    def begin(self, trial: Trial, file: str) -> futures.Future:
        if self._executor is None:
            self._executor = loky.ProcessPoolExecutor(
                max_workers=1,
                initializer=_settle,
                initargs=(os.getpid(),),
                env={name: self._threads for name in THREAD_COUNTS},
            )
        return self._executor.submit(_attempt, trial, file)

    def end(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=True)
            self._executor = None


THREAD_COUNTS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NPROC"),
)
"""Environment variables that libraries take their number of threads from."""


class _Workers:
    def __init__(self, workers: list[_Worker], files: Mapping[str, str]):
        self._idle = workers
        self._files = files
        self._waiting: deque[Trial] = deque()
        self._tries: dict[str, int] = {}

    def submit(self, trial: Trial) -> None:
        # Data go by file: each worker reads them once.
        stripped = replace(trial, workload=replace(trial.workload, data=None))
        self._waiting.append(stripped)

    def results(self) -> Iterator[Record]:
        running: dict[futures.Future, tuple[_Worker, Trial, int]] = {}
        while self._waiting or running:
            while self._waiting and self._idle:
                trial, worker = self._waiting.popleft(), self._idle.pop()
                future = worker.begin(trial, self._files[trial.workload.name])
                running[future] = worker, trial, milliseconds()
            done, _ = futures.wait(running, return_when=futures.FIRST_COMPLETED)
            for future in done:
                worker, trial, started = running.pop(future)
                self._idle.append(worker)
                try:
                    record = future.result()
                except futures.process.BrokenProcessPool as error:
                    worker.end()
                    tries = self._tries[trial.key] = self._tries.get(trial.key, 0) + 1
                    if tries < ATTEMPTS:
                        self._waiting.appendleft(trial)
                        continue
                    reason = f"its process died {tries} times: {error}"
                    record = trial.record("failed", started, reason)
                except Exception as error:
                    reason = f"it cannot be sent to a process: {error!r}"
                    record = trial.record("failed", started, reason)
                yield record


def _settle(driver: int) -> None:
    """Prepares a worker: it leaves interrupts to the driver, and ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()

    def watch() -> None:
        while os.getppid() == driver:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@lru_cache
def _read(file: str) -> Dataset:
    return joblib.load(file, mmap_mode="r")


def _attempt(trial: Trial, file: str) -> Record:
    return attempt(trial, _read(file))
