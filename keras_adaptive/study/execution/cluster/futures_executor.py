"""Runs by any executor of `concurrent.futures`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_adaptive.errors import ClusterError, InputError, counted, needs_extra
from keras_adaptive.study.execution.cluster.remote import GO_ON, RemoteSite
from keras_adaptive.study.execution.executors import Executor, InProcess, Pool
from keras_adaptive.study.execution.processes import runs_by_fit
from keras_adaptive.study.execution.this_machine import SHARE_OF_MEMORY
from keras_adaptive.study.execution.worker import data_files, threads_each

with needs_extra("study"):
    import loky

if TYPE_CHECKING:
    from keras_adaptive.datasets.dataset import Dataset


@dataclass(frozen=True)
class FuturesExecutor:
    """Makes runs by an executor of `concurrent.futures`.

    The executor's processes must see the temporary folder of this machine, where the
    data lie. They start processes of their own, which make the runs and end with them.

    Args:
        executor: The executor. It is not shut down.
        count: The number of tasks at the same time; `None` for the processors of this
            machine.

    Raises:
        InputError: If the count is not a whole number above 0.
    """

    executor: futures.Executor
    count: int | None = None

    def __post_init__(self) -> None:
        """Checks the count."""
        if self.count is not None:
            object.__setattr__(self, "count", counted("FuturesExecutor", self.count))

    @contextmanager
    def site(self, data: Mapping[str, Dataset]) -> Iterator[RemoteSite]:
        """Opens the place of compiled runs, see `Executor`."""
        count = self.count or loky.cpu_count()
        share = SHARE_OF_MEMORY / count
        with data_files(data) as files:
            yield RemoteSite(files, [self._submit] * count, share, threads_each(count))

    @contextmanager
    def start(self, data: Mapping[str, Dataset]) -> Iterator[Pool]:
        """Opens a pool, see `Executor`."""
        with self.site(data) as site, runs_by_fit(site) as pool:
            yield pool

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> futures.Future:
        try:
            return self.executor.submit(function, *arguments)
        except (BrokenExecutor, RuntimeError) as error:
            name = type(self.executor).__name__
            raise ClusterError(f"The {name} takes no run: {error}. {GO_ON}") from error


def as_executor(given: Executor | futures.Executor | None) -> Executor:
    """Returns what makes the runs of a study.

    Args:
        given: An executor of this package or of `concurrent.futures`; `None` for this
            process.

    Raises:
        InputError: It is something else.
    """
    if given is None:
        return InProcess()
    if isinstance(given, futures.Executor):
        return FuturesExecutor(given)
    if not hasattr(given, "start"):
        raise InputError(
            f"The executor is {given!r}. Expected InProcess(), Processes(n), "
            "DaskExecutor(client), or an executor of concurrent.futures."
        )
    return given
