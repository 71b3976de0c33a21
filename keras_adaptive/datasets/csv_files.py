"""CSV and Parquet files: tables with a target, and texts with labels."""

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from keras_adaptive.datasets.dataset import (
    Dataset,
    Split,
    Task,
    encode_labels,
    three_parts,
)
from keras_adaptive.datasets.files import existing_file, read_lines
from keras_adaptive.datasets.frames import labels_of, load_frame, require_column
from keras_adaptive.datasets.text import MAX_WORDS, vectorize
from keras_adaptive.errors import InputError, needs_extra

with needs_extra("study"):
    import pandas as pd

MISSING = ["", "nan", "NaN", "NAN", "NA", "<NA>", "?"]
"""Fields of a CSV file that mean a missing value."""


def decoded_lines(path: Path) -> Iterator[str]:
    """Yields the lines of a UTF-8 file; an error names the first line that is not."""
    for number, line in enumerate(read_lines(path), start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}, line {number} is not UTF-8 text ({error.reason}). Expected a "
                "CSV file in UTF-8: convert it, for example with "
                "'iconv -f latin1 -t utf-8'."
            ) from error


def check_rows(path: Path) -> list[str]:
    """Checks that every row of a CSV file has as many fields as its header.

    Args:
        path: Path of the file, plain or compressed.

    Returns:
        The names of the columns; a column without a name gets its number as a name.

    Raises:
        InputError: If a row cannot be read (the message has the number of its line), if
            two columns have the same name, or if there are no rows.
    """
    reader = csv.reader(decoded_lines(path), strict=True)
    rows = 0
    try:
        header = [
            name or f"column {number}"
            for number, name in enumerate(next(reader, []), start=1)
        ]
        if len(set(header)) < len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise InputError(f"{path} has two columns called {twice!r}. Rename one.")
        for row in reader:
            if row and len(row) != len(header):
                raise InputError(
                    f"{path}, line {reader.line_num} has {len(row)} fields. Expected "
                    f"{len(header)}, as in the header: check for missing quotes."
                )
            rows += bool(row)
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num} cannot be read as CSV: {error}. Expected "
            "fields separated by commas, with double quotes around texts that contain "
            "commas or line ends."
        ) from error
    if not rows:
        raise InputError(f"{path} has a header but no rows. Expected one row a line.")
    return header


def read_csv(path: str | Path, texts: Sequence[str] = ()) -> pd.DataFrame:
    """Reads a CSV file with a header line, plain or compressed.

    Args:
        path: Path of the file; `.gz`, `.bz2` and `.xz` are decompressed.
        texts: Columns that are read as text, even if they contain numbers.

    Returns:
        The table. Empty fields, `NA`, `NaN` and `?` are missing values.

    Raises:
        InputError: If the file cannot be used.
    """
    found = existing_file(path)
    header = check_rows(found)
    for column in texts:
        require_column(column, header, str(found))
    return pd.read_csv(
        found,
        encoding="utf-8-sig",
        header=0,
        names=header,
        keep_default_na=False,
        na_values={name: MISSING for name in header if name not in texts},
        dtype={name: str for name in texts},
        low_memory=False,
    )


def read_parquet(path: str | Path) -> pd.DataFrame:
    """Reads a Parquet file.

    Args:
        path: Path of the file.

    Raises:
        InputError: If the file cannot be used.
    """
    found = existing_file(path)
    try:
        return pd.read_parquet(found)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{found} cannot be read as Parquet: {error}. The file is damaged, cut off "
            "or of another kind."
        ) from error


READERS: dict[str, Callable[[str | Path], pd.DataFrame]] = {
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
    return load_frame(
        f"{kind}:{Path(path).name}",
        str(path),
        read(path),
        target,
        test=read(test_path) if test_path else None,
        task=task,
        categories=categories,
        seed=seed,
    )


def load_csv_texts(
    path: str | Path,
    text: str,
    target: str,
    max_words: int = MAX_WORDS,
    seed: int = 0,
) -> Dataset:
    """Loads labelled texts from a CSV file, plain or compressed.

    Args:
        path: Path of the file; `.gz`, `.bz2` and `.xz` are decompressed.
        text: Name of the column with the texts.
        target: Name of the column with the labels.
        max_words: Number of the most frequent words that become features.
        seed: Seed of the split.

    Returns:
        The dataset; validation and test part are a tenth of the rows each.

    Raises:
        InputError: If the file cannot be used.
    """
    frame = read_csv(path, texts=[text])
    require_column(target, list(frame.columns), str(path))
    raw = labels_of(frame[target], "classification", str(path))
    classes, labels = encode_labels(raw, f"the column {target!r} of {path}")
    texts = Split(frame[text].to_numpy(object), np.asarray(labels))
    parts = three_parts(texts, None, "classification", seed)
    return vectorize(f"csv:{Path(path).name}", str(path), classes, parts, max_words)
