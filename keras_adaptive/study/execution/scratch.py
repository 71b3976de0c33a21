"""Temporary folders that do not outlive their process for long.

A process that is killed cannot remove its folder, so the next one does. The owner of a
folder holds a lock on a file in it. The system frees the lock when the owner ends,
whatever ended it, so a lock that can be taken proves that the owner is dead.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing can be proved, so nothing is removed
    fcntl = None  # type: ignore[assignment]

PREFIX = "keras-adaptive-"
LOCK = "owner.lock"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Makes a temporary folder for the length of a block.

    Folders of processes that are dead are removed first.

    Yields:
        The folder.
    """
    remove_orphans(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        folder = Path(name)
        new = folder / f"{LOCK}.new"
        with new.open("w") as held:
            if _locked(held.fileno()):
                new.rename(folder / LOCK)  # never seen before it is locked
            yield folder


def remove_orphans(place: Path) -> None:
    """Removes the folders whose owners are dead.

    Args:
        place: The folder in which they lie. Folders without a lock are left alone.
    """
    for lock in place.glob(f"{PREFIX}*/{LOCK}"):
        with suppress(OSError), lock.open("r") as file:
            if _locked(file.fileno()):
                shutil.rmtree(lock.parent, ignore_errors=True)


def _locked(file: int) -> bool:
    """Takes the lock of a file, if nobody else holds it."""
    if fcntl is None or os.name != "posix":
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
