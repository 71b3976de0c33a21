"""Executors: they make the runs of a study, by default one by one in this process."""

from __future__ import annotations

import gc
import typing
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from keras_adaptive.study.execution.training import attempt
from keras_adaptive.study.execution.trial import Trial
from keras_adaptive.study.ledger.record import Record

if TYPE_CHECKING:
    from keras_adaptive.datasets.dataset import Dataset


class Pool(typing.Protocol):
    """Makes runs while its executor is open. Unfinished runs are not recorded."""

    def submit(self, trial: Trial) -> None:
        """Runs a trial, at once or when a process is free."""

    def results(self) -> Iterator[Record]:
        """Yields the record of each trial when it is done, until none is left.

        More trials may be submitted in between.
        """


class Executor(typing.Protocol):
    """Makes the runs of a study.

    One with a method `site(data)`, which opens a `Site`, makes compiled runs there;
    those of others are made on this machine.
    """

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
