"""Columns of categories and numbers as features; all is learned from training rows."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

from keras_adaptive.datasets.dataset import Array, Features
from keras_adaptive.errors import InputError

NUMBERS = "numbers"
"""Name of the input of all numbers; each category is an input of its own."""

Columns = dict[str, np.ndarray]


def encoder(train: Columns, source: str) -> Callable[[Columns], Features]:
    """Learns the encoding of columns as features from the training columns.

    Args:
        train: The training columns.
        source: The origin of the table, for the error message.

    Returns:
        A function from the columns of any part to its features.

    Raises:
        InputError: If nothing is left to learn from, or if two inputs would have the
            same name.
    """
    lookups = {
        name: lookup(column)
        for name, column in train.items()
        if not np.issubdtype(column.dtype, np.floating)
    }
    inputs = {name: name.replace("/", "_") for name in lookups}
    if len({NUMBERS, *inputs.values()}) <= len(inputs):
        raise InputError(
            f"{source}: two inputs would have one name. {NUMBERS!r} is the name of all "
            "numbers, and '/' becomes '_'. Rename one of the columns: "
            f"{', '.join(lookups)}."
        )
    names = [name for name in train if name not in lookups]
    numbers = number_encoder({name: train[name] for name in names}, source)
    if not lookups and numbers is None:
        raise InputError(
            f"{source}: every column has one value in all training rows, so there is "
            "nothing to learn from."
        )

    def encode(columns: Columns) -> Features:
        encoded: dict[str, Array] = {
            inputs[name]: find(columns[name]) for name, find in lookups.items()
        }
        if numbers is None:
            return encoded
        array = numbers(columns)
        return {**encoded, NUMBERS: array} if encoded else array

    return encode


def lookup(train: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Numbers the categories of a training column from 1, the most frequent first.

    Args:
        train: The training column.

    Returns:
        A function from a column to its numbers; unknown categories become 0.
    """
    whole = np.issubdtype(train.dtype, np.integer)
    layer = keras.layers.IntegerLookup() if whole else keras.layers.StringLookup()
    layer.adapt(train)

    def find(column: np.ndarray) -> np.ndarray:
        found = keras.ops.convert_to_numpy(layer(column)) if len(column) else column
        numbers: np.ndarray = found.astype(np.int32)
        return numbers

    return find


def number_encoder(
    train: Columns, source: str
) -> Callable[[Columns], np.ndarray] | None:
    """Learns to fill in and to scale numbers.

    Args:
        train: The training columns, NaN where a number is missing.
        source: The origin of the table, for the error message.

    Returns:
        A function from columns to one array of float32; `None` if no column is left.

    Raises:
        InputError: If a column has no number in any training row.
    """
    for name, column in train.items():
        if np.isnan(column).all():
            raise InputError(
                f"{source}: the column {name!r} has no value in any training row. "
                "Leave it out."
            )
    medians = {name: np.nanmedian(column) for name, column in train.items()}
    flagged = [name for name, column in train.items() if np.isnan(column).any()]

    def fill(columns: Columns) -> np.ndarray:
        centred = [columns[name] - median for name, median in medians.items()]
        missing = [np.isnan(columns[name]) for name in flagged]
        return np.nan_to_num(np.stack([*centred, *missing], axis=1)).astype(np.float32)

    if not train:
        return None
    filled = fill(train)
    varying = filled.std(axis=0) > 0
    if not varying.any():
        return None
    layer = keras.layers.Normalization()
    layer.adapt(filled[:, varying])

    def scale(columns: Columns) -> np.ndarray:
        scaled: np.ndarray = keras.ops.convert_to_numpy(
            layer(fill(columns)[:, varying])
        )
        return scaled

    return scale
