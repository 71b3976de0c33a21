"""Waiting for the store: no wait stays silent for longer than a few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from keras_adaptive.study.ledger.connection import Tell, store_location, usable_store

LONGEST_SILENCE = 5.0


class Teller:
    """Tells lines, and says so when a block waits for the store in silence.

    Args:
        tell: Takes a line.

    Example:
        >>> tell = Teller(print)
        >>> with tell.waiting():
        ...     tell("The store has answered.")
        The store has answered.
    """

    def __init__(self, tell: Tell) -> None:
        """Keeps who takes the lines."""
        self._tell = tell
        self._spoke = 0.0
        self._watched = False

    def __call__(self, line: str) -> None:
        """Tells a line."""
        self._spoke = time.monotonic()
        self._tell(line)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Tells a line whenever a block was silent for `LONGEST_SILENCE` seconds.

        A block inside of another one belongs to the wait of that one.
        """
        if self._watched:
            yield
            return
        ended = threading.Event()
        self._spoke = time.monotonic()
        watch = threading.Thread(target=self._break_silence, args=(ended,), daemon=True)
        self._watched = True
        watch.start()
        try:
            yield
        finally:
            ended.set()
            watch.join()
            self._watched = False

    @contextmanager
    def usable_store(self) -> Iterator[None]:
        """Waits for the store in a block, and replaces its errors by advice.

        Raises:
            InputError: If the store cannot be used.
        """
        with self.waiting(), usable_store():
            yield

    def _break_silence(self, ended: threading.Event) -> None:
        began = self._spoke
        while not ended.wait(max(0.0, LONGEST_SILENCE - self._silence())):
            if self._silence() >= LONGEST_SILENCE:
                waited = f"{time.monotonic() - began:.0f} s"
                self(f"Waiting for MLflow's store at {store_location()} … {waited}")

    def _silence(self) -> float:
        return time.monotonic() - self._spoke
