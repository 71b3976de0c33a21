"""Folders and file names for what a study writes."""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path

from keras_adaptive.errors import InputError

LONGEST_BYTES = 120
"""File systems take 255 bytes, and an ending or a prefix may be added."""


def output_folder(path: Path) -> Path:
    """Makes a folder if it does not exist, and returns it.

    Args:
        path: The folder.

    Raises:
        InputError: If the folder cannot be made, or if no file can be written there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {path} cannot be made ({error}).") from error
    try:
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"written before any training")
    except OSError as error:
        raise InputError(f"Nothing can be written to {path} ({error}).") from error
    return path


def file_name(title: str) -> str:
    """Returns a file name for a title, which ends in a digest if the title is long.

    Example:
        >>> file_name("compare on csv:my data.csv")
        'compare-on-csv-my-data.csv'
    """
    name = re.sub(r"[^\w.-]+", "-", title)
    if len(name.encode()) <= LONGEST_BYTES:
        return name
    mark = hashlib.sha256(title.encode()).hexdigest()[:8]
    begin = name.encode()[: LONGEST_BYTES - len(mark) - 1].decode(errors="ignore")
    return f"{begin}-{mark}"
