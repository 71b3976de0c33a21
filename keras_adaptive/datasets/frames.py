"""Tables with categories and numbers, as arrays for a model.

The rules are the same for every table. All statistics are learned from the training
part alone.

- A category becomes its number in Keras's `StringLookup` or `IntegerLookup`; 0 stands
  for categories that the training part does not have. A missing category is a category.
- Numbers become one array, scaled to mean 0 and deviation 1 by Keras's `Normalization`.
  A missing number is replaced by the median, and another column marks it with 1.
- An input has the name of its column, with "_" for "/", which Keras does not allow.
- A column of numbers is left out if all training rows have the same value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from keras_adaptive.datasets.dataset import (
    Dataset,
    Features,
    Split,
    Task,
    encode_labels,
    encode_test_labels,
)
from keras_adaptive.datasets.encoding import Columns, encoder
from keras_adaptive.datasets.splitting import three_parts
from keras_adaptive.errors import InputError, did_you_mean, needs_extra

with needs_extra("study"):
    import pandas as pd
    from pandas.api import types

MISSING = "(missing)"
"""Name of the category of rows without one."""

MOST_CLASSES = 50
"""A target of whole numbers with more distinct values is guessed to be a regression."""

LARGEST_EXACT = 2**53
"""The whole numbers up to this one are exact as floats."""


def load_frame(
    name: str,
    source: str,
    frame: pd.DataFrame,
    target: str,
    test: pd.DataFrame | None = None,
    task: Task | None = None,
    categories: Sequence[str] = (),
    seed: int = 0,
    notes: tuple[str, ...] = (),
) -> Dataset:
    """Makes a dataset of a pandas table.

    Args:
        name: Name of the dataset.
        source: The origin of the table, in words.
        frame: All rows, or all rows except those of `test`. Columns of text, of truth
            values and of pandas's categories are categories.
        target: Name of the column to predict.
        test: The official test rows; `None` to hold out a tenth of `frame`.
        task: `"classification"` or `"regression"`. `None` guesses: classification if
            the target is not a number, or a whole number with at most 50 distinct
            values.
        categories: Columns of whole numbers that stand for categories.
        seed: Seed of the split.
        notes: Remarks on the origin of the table, for `Dataset.notes`.

    Returns:
        The dataset. The features of a table with categories are a dictionary: an input
        for each category, and the input `"numbers"` of all numbers. The features of a
        table without categories are one array.

    Raises:
        InputError: If a column does not exist, is neither of numbers nor of categories,
            or if a row has no target.

    Example:

    >>> frame = pd.DataFrame({"size": ["S", "L", "S", "S"] * 10, "hit": [1, 0] * 20})
    >>> load_frame("mine", "made up", frame, target="hit").train.x["size"][:4]
    array([1, 2, 1, 1], dtype=int32)
    """
    known = [str(column) for column in frame.columns]
    for column in (target, *categories):
        require_column(column, known, source)
    if target in categories:
        raise InputError(f"{source}: {target!r} is the target and cannot be a feature.")
    if test is not None and {str(column) for column in test.columns} != set(known):
        raise InputError(
            f"The test rows of {source} have the columns {', '.join(test.columns)}. "
            f"Expected those of the training rows: {', '.join(known)}."
        )
    task = task or guess_task(frame[target])
    frames = [frame] if test is None else [frame, test]
    labels = [labels_of(each[target], task, source) for each in frames]
    classes: tuple[str, ...] = ()
    if task == "classification":
        raw = labels[0]
        classes, labels[0] = encode_labels(raw, f"the column {target!r} of {source}")
        labels[1:] = [encode_test_labels(each, raw, source) for each in labels[1:]]
    train = columns_of(frame.drop(columns=target), categories, source)
    rows, tested = Split(cast(Features, train), labels[0]), None
    if test is not None:
        given = columns_like(test.drop(columns=target), train, f"The test of {source}")
        rows = Split(cast(Features, {n: given[n][0] for n in train}), labels[0])
        tested = Split(cast(Features, {n: given[n][1] for n in train}), labels[1])
    parts = three_parts(rows, tested, task, seed)
    return replace(table(name, source, parts, task, classes), notes=notes)


def require_column(column: str, known: Sequence[str], source: str) -> None:
    """Checks that a table has a column.

    Args:
        column: Name of the column.
        known: Names of the existing columns.
        source: The origin of the table, for the error message.

    Raises:
        InputError: If the column does not exist; the message suggests a similar name.
    """
    if column not in known:
        raise InputError(
            f"{source} has no column {column!r}. Its columns are: "
            f"{', '.join(known) or '(none)'}.{did_you_mean(column, known)}"
        )


def guess_task(target: pd.Series) -> Task:
    """Guesses the task from the target, as `load_frame` describes."""
    if not is_number(target):
        return "classification"
    values = target.dropna().unique()
    few = len(values) <= MOST_CLASSES and (values == np.floor(values)).all()
    return "classification" if few else "regression"


def labels_of(target: pd.Series, task: Task, source: str) -> np.ndarray:
    """Returns the labels of a column after checking them.

    Args:
        target: The column.
        task: The task that the labels belong to.
        source: The origin of the table, for the error message.

    Raises:
        InputError: If a row has no label, or if the labels of a regression are not
            numbers.
    """
    missing = np.flatnonzero(target.isna())
    if len(missing):
        raise InputError(
            f"{source}: {len(missing)} of {len(target)} rows have no label in column "
            f"{target.name!r}, the first is row {missing[0] + 1}. Expected a label in "
            "every row: fill it in or remove the row."
        )
    if not is_number(target):
        if task == "classification":
            return target.astype(str).to_numpy(dtype=str)
        raise InputError(
            f"{source}: the column {target.name!r} does not hold numbers. Expected "
            "numbers for a regression."
        )
    whole = types.is_signed_integer_dtype(target) and task == "classification"
    if task == "classification" and types.is_float_dtype(target):
        whole = (target == np.floor(target)).all()
    return target.to_numpy(np.int64 if whole else np.float64)


def is_number(column: pd.Series) -> bool:
    """Says whether a column contains real numbers; truth values are not numbers."""
    return bool(types.is_any_real_numeric_dtype(column))


def columns_of(frame: pd.DataFrame, categories: Sequence[str], source: str) -> Columns:
    """Returns the columns of a table as arrays of text, whole numbers or floats.

    Args:
        frame: The features.
        categories: Columns of whole numbers that stand for categories.
        source: The origin of the table, for the error message.

    Returns:
        Categories as text or whole numbers; numbers as float64, NaN where missing.

    Raises:
        InputError: If a column is of another type, or contains infinite numbers.
    """
    if len(frame.columns) == 0:
        raise InputError(f"{source} has no column except the target to learn from.")
    columns = {}
    for name, column in frame.items():
        if is_number(column) and name in categories:
            columns[str(name)] = whole_categories(column, source)
        elif is_number(column):
            values = column.to_numpy(np.float64, na_value=np.nan)
            if np.isinf(values).any():
                raise InputError(
                    f"{source}: the column {name!r} is infinite in row "
                    f"{np.flatnonzero(np.isinf(values))[0] + 1}. Expected finite "
                    "numbers; leave the field empty where a number is missing."
                )
            columns[str(name)] = values
        else:
            kind = types.infer_dtype(column, skipna=True)
            if kind not in ("string", "boolean", "categorical", "empty"):
                raise InputError(
                    f"{source}: the column {name!r} is of type {kind}. Expected "
                    "numbers, text or truth values: convert it or leave it out."
                )
            columns[str(name)] = text_of(column)
    return columns


def columns_like(
    test: pd.DataFrame, train: Columns, source: str
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns the columns of test rows in the types of the training columns.

    Args:
        test: The features of the test rows.
        train: The training columns, as from `columns_of`.
        source: The origin of the test rows, for the error message.

    Returns:
        For each column the training values and the test values. Both are text if one
        of them is a category in text.

    Raises:
        InputError: If a column of numbers has something else in the test rows.
    """
    numeric = [name for name, column in train.items() if column.dtype.kind == "f"]
    for name in numeric:
        column = test[name]
        if not is_number(column) and column.notna().any():
            strange = pd.to_numeric(column, errors="coerce").isna() & column.notna()
            row = int(np.flatnonzero(strange if strange.any() else column.notna())[0])
            raise InputError(
                f"{source}, row {row + 1}: the column {name!r} holds numbers in the "
                f"training rows, but {column.iloc[row]!r} here. Expected numbers: "
                "convert the column."
            )
    frame = test.assign(**{name: pd.to_numeric(test[name]) for name in numeric})
    tested = columns_of(frame, [name for name in train if name not in numeric], source)
    pairs = {name: (column, tested[name]) for name, column in train.items()}
    return {
        name: two if two[0].dtype.kind == two[1].dtype.kind else as_text(*two)
        for name, two in pairs.items()
    }


def as_text(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the categories of two columns as text."""
    first, second = (column.astype(str) for column in columns)
    return first, second


def whole_categories(column: pd.Series, source: str) -> np.ndarray:
    """Returns categories as whole numbers, or as text if some are missing."""
    present = column.dropna()
    floats = types.is_float_dtype(column)
    if floats and (present.abs() > LARGEST_EXACT).any():
        raise InputError(
            f"{source}: the column {column.name!r} is named as a category and holds "
            f"{present[present.abs() > LARGEST_EXACT].iloc[0]:.0f} as a rounded "
            "number, so different ids may be equal. Save whole numbers or text."
        )
    if floats and (present != np.floor(present)).any():
        raise InputError(
            f"{source}: the column {column.name!r} is named as a category and holds "
            f"{present[present != np.floor(present)].iloc[0]}. Expected whole numbers "
            "or text."
        )
    if types.is_unsigned_integer_dtype(column):
        return text_of(column)
    if len(present) == len(column):
        return column.to_numpy(np.int64)
    return text_of(column.astype("Int64"))


def text_of(column: pd.Series) -> np.ndarray:
    """Returns categories as text; missing ones become `MISSING`."""
    text = column.astype(object).where(column.notna(), MISSING)
    return text.to_numpy().astype(str)


def table(
    name: str,
    source: str,
    parts: Iterable[Split],
    task: Task,
    classes: tuple[str, ...],
) -> Dataset:
    """Makes a dataset of columns in three parts, by the rules of this module.

    Args:
        name: Name of the dataset.
        source: The origin of the table, in words.
        parts: The training, the validation and the test part; `x` of each is a
            dictionary of columns. Columns of text or whole numbers are categories,
            columns of floats are numbers.
        task: `"classification"` or `"regression"`.
        classes: Names of the classes.

    Returns:
        The dataset.

    Raises:
        InputError: If nothing is left to learn from.
    """
    train, validation, test = parts
    encode = encoder(cast(Columns, train.x), source)

    def encoded(part: Split) -> Split:
        return Split(encode(cast(Columns, part.x)), part.y)

    return Dataset(
        name,
        source,
        encoded(train),
        encoded(validation),
        encoded(test),
        task=task,
        classes=classes,
    )
