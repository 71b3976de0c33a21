"""CSV and Parquet files: tables with a target, and texts with labels."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_adaptive.datasets.dataset import (
    Dataset,
    Split,
    Task,
    encode_labels,
    encode_test_labels,
)
from keras_adaptive.datasets.fields import Fields, Kind
from keras_adaptive.datasets.files import existing_file, read_lines
from keras_adaptive.datasets.frames import (
    is_number,
    labels_of,
    load_frame,
    require_column,
)
from keras_adaptive.datasets.splitting import three_parts
from keras_adaptive.datasets.text import MAX_WORDS, vectorize
from keras_adaptive.errors import InputError, needs_extra

with needs_extra("study"):
    import pandas as pd

SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
"""The first two bytes of a file in UTF-16."""

MOST_REMARKS = 5

Kinds = Mapping[str, Kind]


@dataclass(frozen=True)
class Table:
    """The content of a file.

    Args:
        frame: The rows.
        notes: Remarks on how they were read, in words.
    """

    frame: pd.DataFrame
    notes: tuple[str, ...] = ()


def decoded_lines(path: Path) -> Iterator[str]:
    """Yields the lines of a UTF-8 file; an error names the first line that is not."""
    for number, line in enumerate(read_lines(path), start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            encoding = "utf-16" if line.startswith(UTF_16) else "latin1"
            raise InputError(
                f"{path}, line {number} is not UTF-8 text ({error.reason}). Expected a "
                "CSV file in UTF-8: convert it, for example with "
                f"'iconv -f {encoding} -t utf-8'."
            ) from error


def check_rows(path: Path) -> tuple[list[str], array[int]]:
    """Checks that every row of a CSV file has as many fields as its header.

    Args:
        path: Path of the file, plain or compressed.

    Returns:
        The names of the columns, and the number of the line on which each row ends. A
        column without a name gets its number as a name.

    Raises:
        InputError: If a row cannot be read (the message has the number of its line), if
            two columns have the same name, if fields are separated by something else
            than commas, or if there are no rows.
    """
    reader = csv.reader(decoded_lines(path), strict=True)
    lines = array("q")
    try:
        header = [
            name or f"column {number}"
            for number, name in enumerate(next(reader, []), start=1)
        ]
        check_header(header, path)
        for row in reader:
            if row and len(row) != len(header):
                raise InputError(
                    f"{path}, line {reader.line_num} has {len(row)} fields. Expected "
                    f"{len(header)}, as in the header: check for missing quotes."
                )
            if row:
                lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num} cannot be read as CSV: {error}. Expected "
            "fields separated by commas, with double quotes around texts that contain "
            "commas or line ends."
        ) from error
    if not lines:
        raise InputError(f"{path} has a header but no rows. Expected one row a line.")
    return header, lines


def check_header(header: Sequence[str], path: Path) -> None:
    """Checks the names of the columns.

    Args:
        header: The names.
        path: Path of the file, for the error message.

    Raises:
        InputError: If two columns have the same name, or if the only name looks like
            several with another separator.
    """
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise InputError(f"{path} has two columns called {twice!r}. Rename one.")
    for separator, words in SEPARATORS.items():
        if len(header) == 1 and separator in header[0]:
            raise InputError(
                f"{path} has the single column {header[0]!r}, so its fields seem to be "
                f"separated by {words}. Expected commas: save the table with commas, "
                "and with a point in decimal numbers."
            )


def read_csv(path: str | Path, kinds: Kinds | None = None) -> Table:
    """Reads a CSV file with a header line, plain or compressed.

    Args:
        path: Path of the file; `.gz`, `.bz2` and `.xz` are decompressed.
        kinds: The use of columns, by name; that of the others is guessed. A name that
            the file does not have is left to the caller.

    Returns:
        The table, read by the rules of `keras_adaptive.datasets.fields`.

    Raises:
        InputError: If the file cannot be used, or if a column of numbers has a field
            that is none.
    """
    found, kinds = existing_file(path), kinds or {}
    header, lines = check_rows(found)
    text = pd.read_csv(
        found,
        encoding="utf-8-sig",
        header=0,
        names=header,
        keep_default_na=False,
        dtype=str,
    )
    columns, remarks = {}, []
    for name in header:
        fields = Fields(str(found), name, text[name], lines)
        columns[name], remark = fields.read(kinds.get(name))
        remarks += [remark] if remark else []
    notes = [f"{found}: read as missing numbers: {listed(remarks)}."] if remarks else []
    return Table(pd.DataFrame(columns), tuple(notes))


def listed(remarks: Sequence[str]) -> str:
    """Joins remarks, the first five of them if there are many."""
    more = len(remarks) - MOST_REMARKS
    end = f"; and more in {more} other columns" if more > 0 else ""
    return "; ".join(remarks[:MOST_REMARKS]) + end


def read_parquet(path: str | Path, kinds: Kinds | None = None) -> Table:
    """Reads a Parquet file.

    Args:
        path: Path of the file.
        kinds: Ignored, since the file has the types of its columns.

    Raises:
        InputError: If the file cannot be used.
    """
    found = existing_file(path)
    try:
        return Table(pd.read_parquet(found))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{found} cannot be read as Parquet: {error}. The file is damaged, cut off "
            "or of another kind."
        ) from error


READERS: dict[str, Callable[[str | Path, Kinds], Table]] = {
    "csv": read_csv,
    "parquet": read_parquet,
}


def load_table(
    kind: str,
    path: str | Path,
    target: str,
    test_path: str | Path | None = None,
    task: Task | None = None,
    categories: Sequence[str] = (),
    seed: int = 0,
) -> Dataset:
    """Loads a table from a file, by the rules of `keras_adaptive.datasets.frames`.

    Args:
        kind: `"csv"` or `"parquet"`.
        path: Path of the file.
        target: Name of the column to predict.
        test_path: The file to test on; `None` to hold out a tenth of the rows.
        task: The task; `None` to guess it from the target, as `load_frame` does.
        categories: Columns of whole numbers that stand for categories.
        seed: Seed of the split.

    Returns:
        The dataset; a tenth of the rows is the validation part.

    Raises:
        InputError: If the file cannot be used.
    """
    read = READERS[kind]
    kinds: dict[str, Kind] = dict.fromkeys(categories, "category")
    if task is not None:
        kinds[target] = "category" if task == "classification" else "number"
    rows = read(path, kinds)
    tested = None
    if test_path:
        tested = read(test_path, kinds_like(rows.frame, kinds))
    return load_frame(
        f"{kind}:{Path(path).name}",
        str(path),
        rows.frame,
        target,
        test=tested.frame if tested else None,
        task=task,
        categories=categories,
        seed=seed,
        notes=rows.notes + (tested.notes if tested else ()),
    )


def kinds_like(frame: pd.DataFrame, given: Kinds) -> Kinds:
    """Returns the use of the columns of a test file: that of the training columns.

    Args:
        frame: The training rows.
        given: The use of columns that the user has named.
    """
    kinds: dict[str, Kind] = {
        str(name): "number" if is_number(column) else "words"
        for name, column in frame.items()
    }
    return kinds | dict(given)


def load_csv_texts(
    path: str | Path,
    text: str,
    target: str,
    max_words: int = MAX_WORDS,
    seed: int = 0,
    test_path: str | Path | None = None,
) -> Dataset:
    """Loads labelled texts from a CSV file, plain or compressed.

    Args:
        path: Path of the file; `.gz`, `.bz2` and `.xz` are decompressed.
        text: Name of the column with the texts.
        target: Name of the column with the labels.
        max_words: Number of the most frequent words that become features.
        seed: Seed of the split.
        test_path: The file to test on; `None` to hold out a tenth of the rows.

    Returns:
        The dataset; a tenth of the rows is the validation part.

    Raises:
        InputError: If a file cannot be used.
    """
    kinds: Kinds = {text: "text", target: "category"}
    paths = [path] if test_path is None else [path, test_path]
    frames = [read_csv(each, kinds).frame for each in paths]
    for frame, each in zip(frames, paths, strict=True):
        for column in kinds:
            require_column(column, list(frame.columns), str(each))
    raw, *tested = (
        labels_of(frame[target], "classification", str(each))
        for frame, each in zip(frames, paths, strict=True)
    )
    classes, labels = encode_labels(raw, f"the column {target!r} of {path}")
    rows, *test = (
        Split(frame[text].to_numpy(object), np.asarray(y))
        for frame, y in zip(
            frames,
            [labels, *(encode_test_labels(y, raw, str(test_path)) for y in tested)],
            strict=True,
        )
    )
    parts = three_parts(rows, test[0] if test else None, "classification", seed)
    return vectorize(f"csv:{Path(path).name}", str(path), classes, parts, max_words)
