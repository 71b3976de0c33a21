"""Sites: the places of the processes that make runs, this machine or a cluster."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from concurrent import futures
from typing import Any


class Worker(typing.Protocol):
    """A process for one call at a time, which is started again after it has died.

    Attributes:
        programs: The programs that the process has been given so far.
    """

    programs: set[str]

    @property
    def is_starting(self) -> bool:
        """Whether the process still imports its libraries."""

    def call(self, function: Callable[..., Any], *arguments: Any) -> futures.Future:
        """Calls a function in the process.

        The future raises `concurrent.futures.BrokenExecutor` if the process dies.
        """

    def end(self) -> None:
        """Ends the process."""


class Site(typing.Protocol):
    """A place with processes, and the data of a study in files there."""

    @property
    def files(self) -> Mapping[str, str]:
        """The file of each workload, by the workload's name, for `read_data`."""

    @property
    def share_of_memory(self) -> float:
        """The share of its machine's free memory that a process may take."""

    def workers(
        self, environment: Mapping[str, str], prepare: Callable[[], None]
    ) -> list[Worker]:
        """Returns processes, which start with their first call.

        Args:
            environment: Environment variables of the processes.
            prepare: Is called in a process before anything else.
        """
