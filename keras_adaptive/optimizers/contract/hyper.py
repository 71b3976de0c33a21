"""The hyper-parameters of one step, as a rule reads them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from keras import ops

from keras_adaptive.optimizers.contract.renamed import warn_renamed


class Hyper:
    """The hyper-parameters of one step, as scalar tensors of one dtype.

    The attribute `hyper.beta_1` is the optimizer's attribute `beta_1` as a tensor, and
    likewise for every other hyper-parameter. (On JAX and PyTorch `keras.ops` rounds a
    Python number to float32.)

    Args:
        algorithm: The optimizer whose hyper-parameters these are.
        learning_rate: The learning rate of this step.
        iterations: Integer tensor, the number of steps so far.
        dtype: The dtype of the computation.
        weight_decay: The weight decay of the variable; 0 for none.
        global_state: The values of `global_slots` for this step, by name.
        global_state_before: Their values before this step.
        parameter: The variable, or the rows that the gradient touches.

    Attributes:
        dtype: The dtype of the computation.
        learning_rate: The learning rate of this step, with schedules applied.
        step: The number of this step, counted from 1.
        weight_decay: The weight decay of the variable; 0 for none.
        parameter: The variable, or the rows that the gradient touches. In `rule`,
            weight decay has been applied.
        global_state: The values of `global_slots` for this step, by name.
        global_state_before: Their values before this step.
    """

    def __init__(
        self,
        algorithm: Any,
        learning_rate: Any,
        iterations: Any,
        dtype: str,
        weight_decay: Any = 0.0,
        global_state: Mapping[str, Any] | None = None,
        global_state_before: Mapping[str, Any] | None = None,
        parameter: Any = None,
    ) -> None:
        self._algorithm = algorithm
        self.dtype = dtype
        self.learning_rate = ops.cast(learning_rate, dtype)
        self.step = ops.cast(iterations + 1, dtype)
        self.weight_decay = ops.convert_to_tensor(weight_decay, dtype)
        self.global_state = self._cast(global_state)
        self.global_state_before = self._cast(global_state_before)
        self.parameter = parameter

    def _cast(self, values: Mapping[str, Any] | None) -> dict[str, Any]:
        return {n: ops.cast(v, self.dtype) for n, v in (values or {}).items()}

    def __getattr__(self, name: str) -> Any:
        if name in ("shared", "shared_before"):
            new = name.replace("shared", "global_state")
            warn_renamed(f"hyper.{name}", f"hyper.{new}", stacklevel=2)
            return getattr(self, new)
        if name.startswith("__"):
            raise AttributeError(name)
        return self.number(getattr(self._algorithm, name))

    def number(self, value: float) -> Any:
        """Returns a Python number as a scalar tensor, exact in the dtype."""
        return ops.convert_to_tensor(value, self.dtype)

    def at(self, parameter: Any) -> Hyper:
        """Returns the same hyper-parameters for another parameter."""
        other = copy.copy(self)
        other.parameter = parameter
        return other
