"""Checks of the values that the statistics take, and their signs."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from keras_adaptive.errors import InputError

ROUNDING = 1e-9
"""Two values are a tie if they differ by at most this share of the larger one. Keras
measures in float32, whose own rounding is larger; sums of floats differ by less."""


def tied(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Says which values are equal but for rounding.

    Example:
        >>> tied([0.1 + 0.2, np.inf, 1.0], [0.3, np.inf, 1.001]).tolist()
        [True, True, False]
    """
    return np.isclose(first, second, rtol=ROUNDING, atol=0.0)


def without_nan(values: ArrayLike) -> np.ndarray:
    """Returns the values as floats.

    Raises:
        InputError: If one of them is NaN.
    """
    floats = np.asarray(values, dtype=float)
    if np.isnan(floats).any():
        raise InputError(
            "A value is NaN. Give infinity for a target that was never reached, and "
            "leave out what was not measured."
        )
    return floats


def nonempty(values: ArrayLike) -> np.ndarray:
    """Returns the values as floats.

    Raises:
        InputError: If there are none, or if one of them is NaN.
    """
    floats = without_nan(values)
    if not floats.size:
        raise InputError("There are no values; at least one is needed.")
    return floats


def paired(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Returns two arrays of one shape as floats.

    Raises:
        InputError: If their shapes differ, or if one of the values is NaN.
    """
    one, other = without_nan(first), without_nan(second)
    if one.shape != other.shape:
        raise InputError(
            f"Pairs need two arrays of one shape, not {one.shape} and {other.shape}."
        )
    return one, other


def upward(values: ArrayLike, direction: str) -> np.ndarray:
    """Returns the values with the sign that makes more better.

    Args:
        values: Values of a metric.
        direction: `"max"` if more of the metric is better, `"min"` if less is.

    Raises:
        InputError: If the direction is something else.

    Example:
        >>> upward([1.0, 2.0], "min").tolist()
        [-1.0, -2.0]
    """
    if direction not in ("max", "min"):
        raise InputError(f"A direction is 'max' or 'min', not {direction!r}.")
    floats = np.asarray(values, dtype=float)
    return floats if direction == "max" else -floats
