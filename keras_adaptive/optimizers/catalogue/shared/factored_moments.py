"""A second moment that is factored into the means of its rows and of its columns.

A matrix of n · m entries needs n + m numbers. Each slot keeps the axis of its means
with length 1, so that the two broadcast. A variable with more axes is a stack of
matrices, which its last two axes span. A vector is not factored: the first slot holds
its whole second moment, and the second slot is a single number.
"""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from keras_adaptive.optimizers.catalogue.shared.moments import averaged
from keras_adaptive.optimizers.contract import Slot, State

DENSE_ONLY = (
    "the means of the columns and the clipping need the whole variable; for large "
    "tables use Adam or Adagrad with row_wise=True and sparse='deferred'."
)
"""The `dense_only` of rules with factored moments."""


def factored_slots(name: str) -> dict[str, Slot]:
    """Returns the two slots of a factored moment."""

    def rows(shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-1], 1) if len(shape) > 1 else shape

    def columns(shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-2], 1, shape[-1]) if len(shape) > 1 else ()

    return {
        f"{name}_rows": Slot(shape_of=rows),
        f"{name}_columns": Slot(shape_of=columns),
    }


def moment(name: str, state: State, squares: Any, decay: Any) -> tuple[Any, State]:
    """Returns a factored running mean after one more step.

    Args:
        name: The name of the moment.
        state: The slots by name, `factored_slots(name)` among them.
        squares: The values to average, positive and of the variable's shape.
        decay: The decay rate of the mean.

    Returns:
        The estimate, of the variable's shape, and the new slots.
    """
    rows, columns = f"{name}_rows", f"{name}_columns"

    if len(squares.shape) < 2:
        whole = averaged(state[rows], squares, decay)
        return whole, {rows: whole, columns: state[columns]}
    new = {
        rows: averaged(state[rows], mean(squares, axis=-1), decay),
        columns: averaged(state[columns], mean(squares, axis=-2), decay),
    }
    return new[rows] / mean(new[rows], axis=-2) * new[columns], new


def clipped(update: Any, threshold: Any) -> Any:
    """Scales an update down to a root mean square of at most `threshold`."""
    factor = root_mean_square(update) / threshold
    return update / ops.maximum(factor, ops.ones_like(factor))


def root_mean_square(values: Any) -> Any:
    """Returns the root of the mean square of all entries."""
    return ops.sqrt(mean(ops.square(values)))


def mean(values: Any, axis: int | None = None) -> Any:
    """Returns the mean along an axis, kept with length 1, or of all entries."""
    # `ops.mean` of float64 passes through float32 on JAX.
    count = math.prod(values.shape) if axis is None else values.shape[axis]
    count = max(count, 1)  # An empty variable has sums of 0 and no NaN.
    total = ops.sum(values, axis=axis, keepdims=axis is not None)
    return total / ops.convert_to_tensor(count, total.dtype)
