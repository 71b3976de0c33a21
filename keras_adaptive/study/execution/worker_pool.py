"""Runs that wait for a worker, or that a worker makes, several to a task."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from keras_adaptive.errors import ClusterError, needs_extra
from keras_adaptive.study.execution.site import Worker
from keras_adaptive.study.execution.trial import Trial, milliseconds
from keras_adaptive.study.ledger.record import Record
from keras_adaptive.terminal import say

with needs_extra("study"):
    from rich.console import Console

if TYPE_CHECKING:
    from keras_adaptive.datasets.dataset import Dataset

ATTEMPTS = 2
"""The number of attempts at a run whose process dies."""

SECONDS_BETWEEN_NOTES = 5.0
"""So often a line says that processes are still starting."""

Task = tuple[Trial, ...]
"""Runs that a worker makes together."""

Attempt = Callable[[Task, str], list[Record]]
"""Makes the runs of a task in a worker, from the file with their data."""

Running = tuple[Worker, Task, int]
"""A task at work: its worker, its runs, and milliseconds since 1970."""


class WorkerPool:
    """Makes runs in workers.

    If the process of a task dies, the task is halved, and a run that is alone is tried
    once more. So a run that kills its process takes no other along.

    Args:
        workers: The processes.
        files: The file with the data of each workload, for `read_data`.
        attempt: Makes the runs of a task.
        capacity: The number of runs that may be made together with a run.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        files: Mapping[str, str],
        attempt: Attempt,
        capacity: Callable[[Trial], int] = lambda trial: 1,
    ) -> None:
        self._workers = list(workers)
        self._idle = list(workers)
        self._files = files
        self._attempt = attempt
        self._capacity = capacity
        self._waiting: dict[tuple[str, str], deque[Trial]] = {}
        self._halved: deque[Task] = deque()
        self._tries: dict[str, int] = {}
        self._console = Console()

    @contextmanager
    def open(self) -> Iterator[WorkerPool]:
        """Keeps the processes for the length of a block."""
        try:
            yield self
        finally:
            for worker in self._workers:
                worker.end()

    def submit(self, trial: Trial) -> None:
        """Runs a trial when a process is free, see `Pool`."""
        together = trial.workload.name, trial.program
        waiting = self._waiting.setdefault(together, deque())
        waiting.append(without_data(trial))

    def results(self) -> Iterator[Record]:
        """Yields the record of each trial when it is done, see `Pool`.

        A process has its next task before anybody looks at the records of its last one.
        """
        running: dict[futures.Future, Running] = {}
        ended: deque[Record] = deque()
        while self._hand_out(running) or ended:
            for future in self._done(running, wait=not ended):
                worker, task, started = running.pop(future)
                self._idle.append(worker)
                try:
                    ended.extend(self._ended(future, worker, task, started))
                except ClusterError:
                    yield from ended
                    raise
            self._hand_out(running)
            if ended:
                yield ended.popleft()

    def _hand_out(self, running: dict[futures.Future, Running]) -> bool:
        """Gives tasks to idle workers, and says whether any worker has one."""
        while self._idle and (self._waiting or self._halved):
            worker = self._idle.pop(0)
            task = self._next_task(worker)
            worker.programs.add(task[0].program)
            file = self._files[task[0].workload.name]
            future = worker.call(self._attempt, task, file)
            running[future] = worker, task, milliseconds()
        return bool(running)

    def _next_task(self, worker: Worker) -> Task:
        """Takes runs that wait: of a program that the worker has, or that nobody has.

        A program that another worker has is compiled once more only if there is
        nothing else to do.
        """
        if self._halved:
            return self._halved.popleft()
        others = set().union(*(each.programs for each in self._workers))
        together = min(
            self._waiting,
            key=lambda each: (each[1] not in worker.programs, each[1] in others),
        )
        waiting = self._waiting[together]
        most = self._capacity(waiting[0])
        task = tuple(waiting.popleft() for _ in range(min(most, len(waiting))))
        if not waiting:
            del self._waiting[together]
        return task

    def _ended(
        self, future: futures.Future, worker: Worker, task: Task, started: int
    ) -> Iterator[Record]:
        """Yields the records of a task that is done, or sends it once more."""
        try:
            yield from future.result()
        except BrokenExecutor as error:
            worker.end()
            if len(task) > 1:
                self._tell("The process of some runs has died. They are made again.")
                middle = len(task) // 2
                self._halved.extend((task[:middle], task[middle:]))
                return
            (trial,) = task
            tries = self._tries[trial.key] = self._tries.get(trial.key, 0) + 1
            if tries < ATTEMPTS:
                self._tell("The process of a run has died. It is made again.")
                self._halved.append(task)
                return
            reason = f"its process died {tries} times: {error}"
            yield trial.record("failed", started, reason)
        except ClusterError:
            raise
        except Exception as error:
            reason = f"it cannot be sent to a process: {error!r}"
            for trial in task:
                yield trial.record("failed", started, reason)

    def _done(
        self, running: Mapping[futures.Future, Running], wait: bool
    ) -> set[futures.Future]:
        """Returns the tasks that are done, after waiting for one if `wait` is set."""
        if wait:
            return self._wait_for_one(running)
        return futures.wait(running, timeout=0).done

    def _wait_for_one(
        self, running: Mapping[futures.Future, Running]
    ) -> set[futures.Future]:
        """Returns the tasks that are done, at least one, and tells of long starts."""
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


def without_data(trial: Trial) -> Trial:
    """Returns a run without its data, which workers read from a file, once."""
    return replace(trial, workload=replace(trial.workload, data=_no_data))


def _no_data() -> Dataset:
    raise AssertionError("A worker reads the data of a workload from a file.")
