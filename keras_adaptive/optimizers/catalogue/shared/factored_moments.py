"""A second moment kept as the means of its rows and of its columns.

Of a matrix that is n + m numbers instead of n · m. The two slots keep the axis that
they are a mean over, with length 1, so that they broadcast; of a variable with more
axes every matrix of its last two is factored. A vector has no such means: its second
moment is kept whole in the first slot, and the second is a single number.
"""

from __future__ import annotations

import math

from keras import ops

from keras_adaptive.optimizers.catalogue.shared.moments import averaged
from keras_adaptive.optimizers.contract import (
    Slot,
)

DENSE_ONLY = (
    "the means of the columns and the clipping need the whole variable; for large "
    "tables use Adam or Adagrad with row_wise=True and sparse='deferred'."
)
"""The `dense_only` of rules with factored moments."""


def factored_slots(name: str) -> dict[str, Slot]:
    """The two slots of a factored moment."""

    def rows(shape):
        return (*shape[:-1], 1) if len(shape) > 1 else shape

    def columns(shape):
        return (*shape[:-2], 1, shape[-1]) if len(shape) > 1 else ()

    return {
        f"{name}_rows": Slot(shape_of=rows),
        f"{name}_columns": Slot(shape_of=columns),
    }


def moment(name: str, state, squares, decay):
    """A factored running mean after one more step.

    Args:
        name: The name of the moment.
        state: The slots by name, `factored_slots(name)` among them.
        squares: What the mean is of; positive, of the variable's shape.
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


def clipped(update, threshold):
    """An update, scaled down to a root mean square of at most `threshold`."""
    factor = root_mean_square(update) / threshold
    return update / ops.maximum(factor, ops.ones_like(factor))


def root_mean_square(values):
    """The root of the mean square of all entries."""
    return ops.sqrt(mean(ops.square(values)))


def mean(values, axis: int | None = None):
    """A mean along an axis, which is kept with length 1, or else of all entries."""
    # `ops.mean` of float64 passes through float32 on JAX.
    count = math.prod(values.shape) if axis is None else values.shape[axis]
    total = ops.sum(values, axis=axis, keepdims=axis is not None)
    return total / ops.convert_to_tensor(count, total.dtype)
