"""The part of a study that runs in a process of a cluster: a host.

A host makes no run itself. It keeps processes of its own for that: with the Keras
backend that a run needs, and with nothing to lose for the host if a run kills them.
"""

from __future__ import annotations

import atexit
import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from keras_adaptive.errors import needs_extra
from keras_adaptive.study.execution.scratch import scratch_folder
from keras_adaptive.study.execution.worker import (
    FOLDER,
    MEMORY_LIMIT,
    LocalWorker,
)

with needs_extra("study"):
    import cloudpickle
    import loky

IDLE_SECONDS = 600.0
"""A process ends after so long without a run, if nobody has ended it."""


class ProcessDied(BrokenExecutor):
    """A process that made runs has died."""


@dataclass(frozen=True)
class Start:
    """How a process for runs is started.

    Args:
        environment: Names and values of environment variables.
        prepare: A function, pickled, that is called before anything else.
        threads: The number of threads that libraries may use in it; `None` for those of
            the host.
    """

    environment: tuple[tuple[str, str], ...]
    prepare: bytes
    threads: int | None = None


@dataclass
class Limits:
    """What a host may use.

    Args:
        threads: The number of threads; 0 for those of the machine.
        memory: Bytes of memory; 0 without a limit.
    """

    threads: int = 0
    memory: int = 0


limits = Limits()
"""Those of this process."""

_idle: dict[Start, list[LocalWorker]] = {}
_busy: list[LocalWorker] = []
_lock = threading.Lock()


def call_here(start: Start, call: bytes) -> bytes:
    """Calls a function in a process of this host.

    Args:
        start: How the process is started, if there is no idle one that was started so.
        call: The function and its arguments, pickled.

    Returns:
        What the function returns, pickled.

    Raises:
        ProcessDied: The process has died.
    """
    with _taken(start) as worker:
        try:
            result: bytes = worker.call(_call, call).result()
            return result
        except BrokenExecutor as error:
            worker.end()
            raise ProcessDied(str(error)) from None


def _call(call: bytes) -> bytes:
    function, arguments = cloudpickle.loads(call)
    answer: bytes = cloudpickle.dumps(function(*arguments))
    return answer


@contextmanager
def _taken(start: Start) -> Iterator[LocalWorker]:
    """Takes a process for the length of a block."""
    with _lock:
        idle = _idle.setdefault(start, [])
        worker = idle.pop() if idle else _new_worker(start)
        _busy.append(worker)
    try:
        yield worker
    finally:
        with _lock:
            _busy.remove(worker)
            _idle.setdefault(start, []).append(worker)


def _new_worker(start: Start) -> LocalWorker:
    # The processes of a cluster may be daemons, which may not start others. Ours end
    # with their parent, whatever ends it.
    multiprocessing.current_process().daemon = False
    _end_processes_at_exit()
    environment = dict(start.environment) | {FOLDER: str(_folder())}
    if limits.memory:
        environment[MEMORY_LIMIT] = str(limits.memory)
    threads = start.threads or limits.threads or loky.cpu_count()
    prepare = cloudpickle.loads(start.prepare)
    return LocalWorker(threads, environment, prepare, IDLE_SECONDS)


def end_processes() -> None:
    """Ends all processes of this host; runs that they make are lost."""
    with _lock:
        workers = [*_busy, *(each for idle in _idle.values() for each in idle)]
        _idle.clear()
    for worker in workers:
        worker.end()


@cache
def _end_processes_at_exit() -> None:
    """Has our processes end before this one waits for them when it exits."""
    Finalize(None, end_processes, exitpriority=1)


def keep(name: str, content: bytes) -> None:
    """Writes a file that the processes of this host read."""
    (_folder() / name).write_bytes(content)


def drop(name: str) -> None:
    """Removes a file."""
    (_folder() / name).unlink(missing_ok=True)


@cache
def _folder() -> Path:
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(scratch_folder())


def software() -> dict[str, Any]:
    """Returns the versions of everything that decides a number, and of Python."""
    import platform

    from keras_adaptive.study.ledger.fingerprint import installed_software

    major, minor, _ = platform.python_version_tuple()
    return {"Python": f"{major}.{minor}", **installed_software()}
