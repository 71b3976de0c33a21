"""Texts and labels from two columns of a CSV file."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from keras_adaptive.study.datasets.dataset import (
    SparseDataset,
    encode_labels,
    stratified_split,
)
from keras_adaptive.study.datasets.files import existing_file, read_lines
from keras_adaptive.study.datasets.text import MAX_WORDS, LabelledTexts, vectorize
from keras_adaptive.study.errors import StudyError

MISSING = frozenset({"", "nan", "NaN", "NAN", "<NA>"})


def decoded_lines(path: Path) -> Iterator[str]:
    """Yields the lines of a UTF-8 file and names the first line that is not UTF-8."""
    for number, line in enumerate(read_lines(path), start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise StudyError(
                f"{path}, line {number} is not UTF-8 text ({error.reason}). Expected a "
                "CSV file in UTF-8: convert it, for example with "
                "'iconv -f latin1 -t utf-8'."
            ) from error


def read_columns(
    path: Path, text_column: str, label_column: str
) -> tuple[list[str], list[str]]:
    """Reads the texts and the labels of a CSV file with a header line.

    Args:
        path: Path of the file, plain or compressed.
        text_column: Name of the column with the texts.
        label_column: Name of the column with the labels.

    Returns:
        The texts and the labels.

    Raises:
        StudyError: If a column or a label is missing or a row cannot be read.
    """
    reader = csv.reader(decoded_lines(path), strict=True)
    texts, labels = [], []
    try:
        header = next(reader, [])
        for column in (text_column, label_column):
            if column not in header:
                raise StudyError(
                    f"{path} has no column {column!r}. Its columns are: "
                    f"{', '.join(header) or '(none)'}. Name two of them with "
                    "--text-column and --label-column."
                )
        text_at, label_at = header.index(text_column), header.index(label_column)
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise StudyError(
                    f"{path}, line {reader.line_num} has {len(row)} fields. Expected "
                    f"{len(header)}, as in the header: check for missing quotes."
                )
            if row[label_at].strip() in MISSING:
                raise StudyError(
                    f"{path}, line {reader.line_num} has no label in column "
                    f"{label_column!r}. Expected a label in every row: fill it in or "
                    "remove the row."
                )
            texts.append(row[text_at])
            labels.append(row[label_at].strip())
    except csv.Error as error:
        raise StudyError(
            f"{path}, line {reader.line_num} cannot be read as CSV: {error}. Expected "
            "fields separated by commas, with texts that hold commas or line ends in "
            "double quotes."
        ) from error
    if not texts:
        raise StudyError(f"{path} has a header but no rows. Expected one text a row.")
    return texts, labels


def load_csv(
    path: str | Path,
    text_column: str,
    label_column: str,
    max_words: int = MAX_WORDS,
    seed: int = 0,
) -> SparseDataset:
    """Loads labelled texts from a CSV file, plain or compressed.

    Args:
        path: Path of the file; `.gz`, `.bz2` and `.xz` are decompressed.
        text_column: Name of the column with the texts.
        label_column: Name of the column with the labels.
        max_words: How many of the most frequent words become features.
        seed: Seed of the split.

    Returns:
        The dataset; a tenth of the rows each is the validation and the test part.

    Raises:
        StudyError: If the file cannot be used.
    """
    found = existing_file(path)
    texts, raw_labels = read_columns(found, text_column, label_column)
    classes, labels = encode_labels(
        raw_labels, f"the column {label_column!r} of {found}"
    )
    test, validation, train = (
        LabelledTexts([texts[row] for row in rows], labels[rows])
        for rows in stratified_split(np.asarray(labels), [0.1, 0.1], seed)
    )
    return vectorize(
        f"csv:{found.name}", str(found), classes, train, validation, test, max_words
    )
