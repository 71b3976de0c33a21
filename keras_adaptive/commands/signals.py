"""Signals that end a command in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Terminated(KeyboardInterrupt):  # noqa: N818, ends a command like its base class
    """The process has been asked to end, by SIGTERM."""


@contextmanager
def orderly_termination() -> Iterator[None]:
    """Makes SIGTERM an exception for the length of a block, as Ctrl-C is one.

    A second SIGTERM ends the process at once. A handler that somebody else has set
    stays, and so does everything in a thread, where no handler can be set.

    Raises:
        Terminated: Where the block is when SIGTERM comes.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def terminate(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
