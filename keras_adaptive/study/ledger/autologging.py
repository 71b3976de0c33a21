"""MLflow's autologging, which a study does without: it has records of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_is_off = False


@contextmanager
def autologging_off() -> Iterator[None]:
    """Turns autologging of all libraries off, and back on as it was after the block.

    MLflow would make runs of its own, and digest the training data, which never end.
    A process that has not imported MLflow has no autologging, and need not import it.
    """
    global _is_off
    if _is_off or "mlflow" not in sys.modules:
        yield
        return
    from mlflow.utils.autologging_utils import disable_autologging

    _is_off = True
    try:
        with disable_autologging():
            yield
    finally:
        _is_off = False
