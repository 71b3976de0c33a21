"""What an update rule is written in terms of: its slots and its hyper-parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from keras import ops

PARAMETER = "parameter"
"""The initial value of a slot that starts as a copy of the parameter."""


@dataclasses.dataclass(frozen=True)
class Slot:
    """What an optimizer remembers of a variable: by default a number for each entry.

    Args:
        initial: The value to start from: a number, or `"parameter"` for a copy of the
            variable.
        row_wise: Keep one number a row (an index of the first axis) instead of
            one an entry. Variables with fewer than two axes keep one an entry.
        shape_of: A function from the shape of the variable to that of the slot, if
            it is neither of these: `lambda shape: ()` for a single number.
    """

    initial: float | str = 0.0
    row_wise: bool = False
    shape_of: Callable[[tuple[int, ...]], tuple[int, ...]] | None = None

    def shape(self, variable_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the slot of a variable of a shape."""
        if self.shape_of is not None:
            return tuple(self.shape_of(tuple(variable_shape)))
        if self.row_wise and len(variable_shape) > 1:
            return (variable_shape[0],) + (1,) * (len(variable_shape) - 1)
        return tuple(variable_shape)

    def initial_value(self, variable, shape: tuple[int, ...], dtype: str):
        """The tensor to start from, exact in the dtype."""
        if self.initial == PARAMETER:
            # A cast to the same dtype is no copy on PyTorch and JAX.
            return ops.copy(ops.cast(variable, dtype))
        # `initializers.Constant` would round the value to float32.
        return ops.full(shape, self.initial, dtype)


class Hyper:
    """The hyper-parameters of one step, as scalar tensors of one dtype.

    An attribute `name` is the optimizer's attribute of that name: `hyper.beta_1`
    in a rule is the optimizer's `beta_1`. (A Python number would do on
    TensorFlow, but passes through float32 in `keras.ops` elsewhere.)

    Args:
        optimizer: The optimizer.
        learning_rate: The learning rate of this step.
        iterations: Integer tensor, the number of updates made so far.
        dtype: The dtype to compute in.
        weight_decay: The weight decay of the variable; by default the optimizer's.
        shared: Values by name, see `AdaptiveOptimizer.share`.
        shared_before: The same before this step.

    Attributes:
        dtype: The dtype to compute in.
        learning_rate: The learning rate of this step, with schedules applied.
        step: The number of this update, counted from 1.
        weight_decay: The weight decay of the variable, 0 if it has none.
        parameter: The variable, or those of its rows that the gradient has; in a
            rule after weight decay.
        shared: The values of `shared_slots` by name, of this step.
        shared_before: The same before this step.
    """

    def __init__(
        self,
        optimizer,
        learning_rate,
        iterations,
        dtype: str,
        weight_decay: float | None = None,
        shared: dict[str, Any] | None = None,
        shared_before: dict[str, Any] | None = None,
    ):
        self._optimizer = optimizer
        self.dtype = dtype
        self.learning_rate = ops.cast(learning_rate, dtype)
        self.step = ops.cast(iterations + 1, dtype)
        if weight_decay is None:
            weight_decay = optimizer.weight_decay or 0.0
        self.weight_decay = ops.convert_to_tensor(weight_decay, dtype)
        self.parameter = None
        self.shared = self._cast(shared)
        self.shared_before = self._cast(shared_before)

    def _cast(self, values: dict[str, Any] | None) -> dict[str, Any]:
        return {n: ops.cast(v, self.dtype) for n, v in (values or {}).items()}

    def __getattr__(self, name: str):
        return self.number(getattr(self._optimizer, name))

    def number(self, value: float):
        """A Python number as a scalar tensor, exact in the dtype."""
        return ops.convert_to_tensor(value, self.dtype)
