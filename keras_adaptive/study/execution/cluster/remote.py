"""Processes of other hosts, for the pool of a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent import futures
from dataclasses import dataclass
from typing import Any

from keras_adaptive.errors import ClusterError, needs_extra
from keras_adaptive.study.execution.cluster.host import Start, call_here
from keras_adaptive.study.execution.site import Worker

with needs_extra("study"):
    import cloudpickle

Submit = Callable[..., futures.Future]
"""Has a function called with arguments by a host, like `Executor.submit`."""

GO_ON = "The finished runs are kept. Run the same study again to go on from there."


class RemoteWorker:
    """A process of a host, see `Worker`.

    Args:
        submit: Has a function called by a host.
        start: How the host starts the process.
    """

    is_starting = False

    def __init__(self, submit: Submit, start: Start) -> None:
        self._submit = submit
        self._start = start
        self._sent: futures.Future | None = None
        self.programs: set[str] = set()

    def call(self, function: Callable[..., Any], *arguments: Any) -> futures.Future:
        """Calls a function in a process of a host.

        Raises:
            ClusterError: There are no hosts any more.
        """
        answer: futures.Future = futures.Future()
        try:
            call = cloudpickle.dumps((function, arguments))
        except Exception as error:
            answer.set_exception(error)
            return answer
        self._sent = self._submit(call_here, self._start, call)
        self._sent.add_done_callback(lambda sent: _hand_over(sent, answer))
        return answer

    def end(self) -> None:
        """Gives up the call that was made last; its host may be lost."""
        if self._sent is not None:
            self._sent.cancel()
        self.programs.clear()


def _hand_over(sent: futures.Future, answer: futures.Future) -> None:
    """Passes on what a host has returned or raised."""
    try:
        answer.set_result(cloudpickle.loads(sent.result()))
    except futures.CancelledError:
        answer.set_exception(ClusterError(f"A run was cancelled. {GO_ON}"))
    except Exception as error:
        answer.set_exception(error)


@dataclass(frozen=True)
class RemoteSite:
    """Processes of other hosts, see `Site`.

    Args:
        files: The files of the datasets at the hosts, by the workload's name.
        submits: For each process, what has a function called by a host.
        share_of_memory: The share of its machine's free memory that a process may take.
        threads: The number of threads of each process; `None` for those of its host.
    """

    files: Mapping[str, str]
    submits: list[Submit]
    share_of_memory: float
    threads: int | None = None

    def workers(
        self, environment: Mapping[str, str], prepare: Callable[[], None]
    ) -> list[Worker]:
        """Returns processes, see `Site`."""
        pickled = cloudpickle.dumps(prepare)
        start = Start(tuple(sorted(environment.items())), pickled, self.threads)
        return [RemoteWorker(submit, start) for submit in self.submits]
