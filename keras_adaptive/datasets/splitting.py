"""Splits of rows into a training, a validation and a test part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_adaptive.datasets.dataset import Split, Task
from keras_adaptive.errors import InputError

HELD_OUT = 0.1
"""Share of the rows in the validation part, and in a test part that is split off."""

FEWEST_ROWS = 10
"""The smallest number of rows whose tenth is a row."""


def stratified_split(
    labels: np.ndarray, fractions: Sequence[float], seed: int
) -> list[np.ndarray]:
    """Splits rows at random so that each class is spread over the parts.

    A class has its share of rows in every held-out part, rounded down but at least one,
    as long as it has rows for all parts. The rest comes first, then the held-out parts
    in their order.

    Args:
        labels: The class of each row.
        fractions: Share of the rows in each held-out part; their sum is below 1.
        seed: Seed of the split.

    Returns:
        The sorted row numbers of each held-out part, followed by those of the rest,
        which has rows of every class.

    Example:

    >>> labels = np.repeat([0, 1], [40, 3])
    >>> [np.bincount(labels[part]) for part in stratified_split(labels, [0.1, 0.1], 0)]
    [array([4, 1]), array([4, 1]), array([32,  1])]
    """
    rng = np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = [[] for _ in range(len(fractions) + 1)]
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        cuts = np.cumsum(_held_out_sizes(len(rows), fractions))
        for part, chunk in zip(parts, np.split(rows, cuts), strict=True):
            part.append(chunk)
    return [np.sort(np.concatenate(part)) for part in parts]


def _held_out_sizes(rows: int, fractions: Sequence[float]) -> np.ndarray:
    """Returns the number of rows of one class in each held-out part."""
    sizes = np.diff(np.floor(np.cumsum(fractions) * rows).astype(int), prepend=0)
    wanted = np.maximum(sizes, 1)
    affordable = np.cumsum(wanted) < rows
    return np.where(affordable, wanted, 0)


def three_parts(
    rows: Split, test: Split | None, task: Task, seed: int
) -> tuple[Split, Split, Split]:
    """Splits rows at random; the classes are spread over the parts.

    Args:
        rows: All rows, or all rows except those of `test`.
        test: The official test part; `None` to hold out a tenth of the rows.
        task: `"classification"` or `"regression"`. The labels of a regression are
            scaled by the training part to mean 0 and deviation 1, so that a prediction
            of the mean has an error of 1.
        seed: Seed of the split.

    Returns:
        The training part; the validation part, a tenth of the rows; the test part.

    Raises:
        InputError: If there are fewer than ten rows, or if all training rows of a
            regression have the same label.

    Example:

    >>> rows = Split(np.arange(40.0).reshape(20, 2), np.arange(20) % 2)
    >>> [len(part.y) for part in three_parts(rows, None, "classification", seed=0)]
    [16, 2, 2]
    """
    if len(rows.y) < FEWEST_ROWS:
        raise InputError(
            f"There are {len(rows.y)} rows, too few rows to split into a training, a "
            f"validation and a test part. Expected at least {FEWEST_ROWS}."
        )
    strata = rows.y if task == "classification" else np.zeros(len(rows.y), int)
    held_out = [HELD_OUT] if test else [HELD_OUT, HELD_OUT]
    *tested, validation, train = stratified_split(strata, held_out, seed)
    parts = rows.take(train), rows.take(validation), test or rows.take(tested[0])
    return scaled(parts) if task == "regression" else parts


def scaled(parts: tuple[Split, Split, Split]) -> tuple[Split, Split, Split]:
    """Scales labels so that the first part, the training part, has mean 0, deviation 1.

    Args:
        parts: The training, the validation and the test part.
    """
    train, validation, test = parts
    if len(train.y) == 0:
        return parts
    mean, deviation = train.y.mean(), train.y.std()
    if deviation == 0:
        raise InputError(
            f"Every training row has the label {mean:g}, so there is nothing to learn. "
            "Check that the right column is used as the label."
        )

    def scale(part: Split) -> Split:
        return Split(part.x, ((part.y - mean) / deviation).astype(np.float32))

    return scale(train), scale(validation), scale(test)
