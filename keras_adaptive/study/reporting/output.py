"""Folders and file names for what a study writes."""

from __future__ import annotations

import re
from pathlib import Path

from keras_adaptive.errors import InputError


def output_folder(path: Path) -> Path:
    """Makes a folder if it does not exist, and returns it.

    Args:
        path: The folder.

    Raises:
        InputError: If the folder cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {path} cannot be made ({error}).") from error
    return path


def file_name(title: str) -> str:
    """Returns a file name for a title.

    Example:
        >>> file_name("compare on csv:my data.csv")
        'compare-on-csv-my-data.csv'
    """
    return re.sub(r"[^\w.-]+", "-", title)
