"""The state that an optimizer keeps of each variable."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from keras import ops

PARAMETER = "parameter"
"""The initial value of a slot that starts as a copy of the parameter."""


@dataclasses.dataclass(frozen=True)
class Slot:
    """An array that an optimizer keeps of a variable, by default of its shape.

    Args:
        initial: The initial value: a number, or `"parameter"` for a copy of the
            variable.
        row_wise: Whether to keep one number a row (an index of the first axis)
            instead of one number an entry. Variables with fewer than two axes keep
            one number an entry.
        shape_of: A function from the variable's shape to the slot's shape, for any
            other shape: `lambda shape: ()` keeps a single number.

    Example:

    >>> Slot(row_wise=True).shape((1000, 64))
    (1000, 1)
    """

    initial: float | str = 0.0
    row_wise: bool = False
    shape_of: Callable[[tuple[int, ...]], tuple[int, ...]] | None = None

    def shape(self, variable_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the slot's shape for a variable of the given shape."""
        if self.shape_of is not None:
            return tuple(self.shape_of(tuple(variable_shape)))
        if self.row_wise and len(variable_shape) > 1:
            return (variable_shape[0],) + (1,) * (len(variable_shape) - 1)
        return tuple(variable_shape)

    def initial_value(self, variable: Any, shape: tuple[int, ...], dtype: str) -> Any:
        """Returns the initial value as a tensor, exact in the dtype."""
        if self.initial == PARAMETER:
            # A cast to the same dtype is no copy on PyTorch and JAX.
            return ops.copy(ops.cast(variable, dtype))
        # `initializers.Constant` would round the value to float32.
        return ops.full(shape, self.initial, dtype)
