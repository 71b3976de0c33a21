"""Folders and file names for what a study writes."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from keras_adaptive.errors import InputError


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
    """Returns a file name for a title.

    Example:
        >>> file_name("compare on csv:my data.csv")
        'compare-on-csv-my-data.csv'
    """
    return re.sub(r"[^\w.-]+", "-", title)
