"""Plain and compressed files, read line by line with errors that name the line."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from keras_adaptive.errors import InputError

OPENERS: dict[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}
UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError)


def existing_file(path: str | Path) -> Path:
    """Returns the path of a file after checking that it exists and is not empty.

    Args:
        path: Path as the user wrote it.

    Raises:
        InputError: If the file does not exist, is a folder or is empty.
    """
    found = Path(path).expanduser()
    if not found.is_file():
        what = "is a folder" if found.is_dir() else "does not exist"
        raise InputError(f"{found} {what}. Expected the path of a data file.")
    if found.stat().st_size == 0:
        raise InputError(f"{found} is empty. Expected a file with one row a line.")
    return found


def open_binary(path: Path) -> IO[bytes]:
    """Opens a file for reading, decompressing `.gz`, `.bz2` and `.xz`."""
    file: IO[bytes] = OPENERS.get(path.suffix.lower(), open)(path, "rb")
    return file


def read_lines(path: Path) -> Iterator[bytes]:
    """Yields the lines of a plain or compressed file.

    Args:
        path: Path of the file.

    Yields:
        The lines, each with its line end.

    Raises:
        InputError: If the file cannot be read, with the number of the line.
    """
    line = 0
    try:
        with open_binary(path) as file:
            for content in file:
                line += 1
                yield content
    except UNREADABLE as error:
        raise InputError(
            f"{path} cannot be read at line {line + 1}: {error}. The file is damaged, "
            "cut off, or not of the kind that its name ends in. Download it again."
        ) from error
