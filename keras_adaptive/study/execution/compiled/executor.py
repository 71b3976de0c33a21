"""Makes some runs as compiled programs, and leaves the others to another executor."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from keras_adaptive.datasets.batches import is_sparse
from keras_adaptive.study.execution.compiled.finding import Finding
from keras_adaptive.study.execution.compiled.work import (
    attempt_pack,
    prepare,
    try_program,
)
from keras_adaptive.study.execution.executors import Executor, Pool
from keras_adaptive.study.execution.keras_settings import KerasSettings
from keras_adaptive.study.execution.site import Site
from keras_adaptive.study.execution.trial import Trial
from keras_adaptive.study.execution.worker_pool import WorkerPool, without_data
from keras_adaptive.study.ledger.record import Record

if TYPE_CHECKING:
    from keras_adaptive.datasets.dataset import Dataset

NO_JAX = "JAX is not installed; pip install 'keras-adaptive[jax]'"


class CompiledRuns:
    """Processes with Keras on JAX that make compiled runs.

    A process starts with its first run.

    Args:
        data: The dataset of each workload, by the workload's name.
        site: Where the processes are.

    Attributes:
        pool: The processes and the runs that wait for them.
    """

    def __init__(self, data: Mapping[str, Dataset], site: Site) -> None:
        settings = KerasSettings.here()
        environment = settings.environment("jax")
        self._workers = site.workers(environment, partial(prepare, settings))
        self._data = data
        self._site = site
        self._replicas: dict[str, int] = {}
        self.pool = WorkerPool(self._workers, site.files, attempt_pack, self._capacity)

    def _capacity(self, trial: Trial) -> int:
        return self._replicas[trial.program]

    def reasons(self, samples: Sequence[Sequence[Trial]]) -> list[str]:
        """Finds out which runs can be compiled.

        Args:
            samples: For each contender on each workload two runs, with different
                learning rates if there are any.

        Returns:
            For each of them why it cannot be compiled; empty if it can.
        """
        found: dict[int, Finding] = {}
        trying: dict[futures.Future, int] = {}
        for place, trials in enumerate(samples):
            first, *_ = trials
            if is_sparse(self._data[first.workload.name].train.x):
                found[place] = Finding("its inputs are sparse")
                continue
            worker = self._workers[place % len(self._workers)]
            worker.programs.add(first.program)
            file = self._site.files[first.workload.name]
            sent = [without_data(trial) for trial in trials]
            share = self._site.share_of_memory
            trying[worker.call(try_program, sent, file, share)] = place
        for future, place in trying.items():
            found[place] = _finding(future)
            self._replicas[samples[place][0].program] = found[place].replicas
        return [found[place].reason for place in range(len(samples))]


def _finding(future: futures.Future) -> Finding:
    try:
        result: Finding = future.result()
        return result
    except BrokenExecutor as error:
        return Finding(f"the process that tried it died: {error}")
    except Exception as error:
        return Finding(f"it cannot be sent to a process: {error!r}")


@contextmanager
def compiled_runs(data: Mapping[str, Dataset], site: Site) -> Iterator[CompiledRuns]:
    """Keeps processes for compiled runs for the length of a block.

    Args:
        data: The dataset of each workload, by the workload's name.
        site: Where the processes are.
    """
    runs = CompiledRuns(data, site)
    with runs.pool.open():
        yield runs


def has_jax() -> bool:
    """Says whether JAX is installed, without importing it."""
    return importlib.util.find_spec("jax") is not None


class CompiledFirst:
    """Makes compiled runs first, and the others afterwards by another executor.

    So the times of the others are measured while no compiled run is made.

    Args:
        compiled: Makes the compiled runs.
        others: Makes the others.
    """

    def __init__(self, compiled: CompiledRuns, others: Executor) -> None:
        self._compiled = compiled
        self._others = others

    @contextmanager
    def start(self, data: Mapping[str, Dataset]) -> Iterator[Pool]:
        """Opens a pool, see `Executor`."""
        with self._others.start(data) as others:
            yield _TwoPools(self._compiled.pool, others)


class _TwoPools:
    """Compiled runs, and runs that wait for another executor."""

    def __init__(self, compiled: Pool, others: Pool) -> None:
        self._compiled = compiled
        self._others = others
        self._new = False

    def submit(self, trial: Trial) -> None:
        if trial.program:
            self._compiled.submit(trial)
            self._new = True
        else:
            self._others.submit(trial)

    def results(self) -> Iterator[Record]:
        while True:
            self._new = False
            yield from self._compiled.results()
            for record in self._others.results():
                yield record
                if self._new:
                    break
            if not self._new:
                return
