"""One step of a rule on a variable: pure functions of tensors, and the write."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from keras_adaptive.optimizers.contract.algorithm import Algorithm
from keras_adaptive.optimizers.contract.hyper import Hyper
from keras_adaptive.optimizers.contract.slot import PARAMETER
from keras_adaptive.optimizers.engine.backend import (
    assign,
    compute_dtype,
    dtype_name,
    values_now,
)


@dataclasses.dataclass(frozen=True)
class StepContext:
    """Everything that a step depends on besides variables and gradients.

    Args:
        calls: Integer scalar, the calls of `apply` so far.
        iterations: Integer scalar, the updates so far.
        learning_rate: The learning rate of this call.
        fallback_learning_rate: The learning rate of the fallback's variables.
        global_state: The values of the global slots for this step.
        global_state_before: Their values before this step.
        row_algorithm: The algorithm that updates rows: the fallback, if there is one.
        cautious: Whether to mask entries that point against the gradient.
        sparse: The mode of sparse updates.
        ema_momentum: The momentum of the moving average; `None` without one.
        accumulation: The calls that make an update; `None` without accumulation.
        replicated: Whether several replicas of `tf.distribute` train.
        write_if: Bool scalar, whether this call writes anything; `None` if it does.
    """

    calls: Any
    iterations: Any
    learning_rate: Any
    fallback_learning_rate: Any
    global_state: Mapping[str, Any]
    global_state_before: Mapping[str, Any]
    row_algorithm: Algorithm
    cautious: bool
    sparse: str
    ema_momentum: float | None
    accumulation: int | None
    replicated: bool
    write_if: Any = None

    @property
    def deferred(self) -> bool:
        """Whether rows that a gradient does not touch catch up later."""
        return self.sparse == "deferred"

    def row_hyper(self) -> Hyper:
        """Returns the hyper-parameters of rows, in float64."""
        algorithm = self.row_algorithm
        return Hyper(
            algorithm,
            self.fallback_learning_rate,
            self.iterations,
            "float64",
            algorithm.weight_decay or 0.0,
            self.global_state,
            self.global_state_before,
        )


@dataclasses.dataclass
class VariableState:
    """A variable of the model with all that its optimizer keeps of it.

    Args:
        index: Its position among the variables that the optimizer was built for.
        variable: The variable.
        algorithm: The algorithm that updates it: the optimizer or its fallback.
        by_fallback: Whether that is the fallback.
        may_decay: Whether it is not excluded from weight decay.
        slots: The slots by name.
        average: Its moving average, if there is one.
        accumulator: The sum of its gradients, with gradient accumulation.
        by_rule: Whether the rule updates it; a gradient overwrites scales of float8.
    """

    index: int
    variable: Any
    algorithm: Algorithm
    by_fallback: bool
    may_decay: bool
    slots: dict[str, Any] = dataclasses.field(default_factory=dict)
    average: Any = None
    accumulator: Any = None
    by_rule: bool = True

    @functools.cached_property
    def dtype(self) -> str:
        """The dtype of its state, in which the rule computes."""
        return compute_dtype(self.variable)

    @property
    def decays(self) -> bool:
        """Whether weight decay applies to it."""
        return self.may_decay and self.algorithm.weight_decay is not None

    def hyper(self, context: StepContext) -> Hyper:
        """Returns the hyper-parameters of a step on it."""
        rate = context.learning_rate
        return Hyper(
            self.algorithm,
            context.fallback_learning_rate if self.by_fallback else rate,
            context.iterations,
            self.dtype,
            self.algorithm.weight_decay if self.decays else 0.0,
            context.global_state,
            context.global_state_before,
        )


Pairs = list[tuple[Any, VariableState]]
"""Gradients with the variables that they belong to."""


def read(state: VariableState) -> tuple[Any, dict[str, Any]]:
    """Returns a variable and its slots as tensors, in the dtype of the rule."""
    return tensors(state.variable, state.slots, state.dtype)


def tensors(
    variable: Any, slots: Mapping[str, Any], dtype: str
) -> tuple[Any, dict[str, Any]]:
    """Returns a variable and slots as tensors, the variable cast to the dtype."""
    values = {name: values_now(slot) for name, slot in slots.items()}
    return ops.cast(values_now(variable), dtype), values


def advance(
    state: VariableState,
    context: StepContext,
    hyper: Hyper,
    parameter: Any,
    slots: dict[str, Any],
    gradient: Any,
) -> tuple[Any, dict[str, Any]]:
    """Computes one update of a variable, or of some of its rows.

    Args:
        state: The variable that the tensors belong to.
        context: The step.
        hyper: The hyper-parameters, as from `state.hyper`.
        parameter: Tensor, the values of the variable.
        slots: Tensors by name, the values of its slots.
        gradient: Tensor of the parameter's shape.

    Returns:
        The parameter and the slots after the update.
    """
    if state.decays:
        parameter = state.algorithm.decayed(parameter, hyper.at(parameter))
    step, slots = state.algorithm.rule(gradient, slots, hyper.at(parameter))
    if context.cautious:
        step = step * _caution(step, gradient, state, context)
    return parameter - step, slots


def _caution(
    step: Any, gradient: Any, state: VariableState, context: StepContext
) -> Any:
    """Returns the mask of the entries that agree with the gradient, over its mean."""
    dtype = dtype_name(step.dtype)
    mask = ops.cast(step * gradient > 0, dtype)
    if context.sparse == "lazy":
        size = ops.cast(ops.size(mask), dtype)
    else:
        size = float(np.prod(state.variable.shape))
    return mask / ops.maximum(ops.sum(mask) / size, ops.convert_to_tensor(1e-3, dtype))


def new_values(
    state: VariableState,
    context: StepContext,
    hyper: Hyper,
    arrays: Mapping[str, Any],
    gradient: Any,
) -> dict[str, Any]:
    """Computes a variable and its slots after a dense update.

    Args:
        state: The variable that the arrays belong to.
        context: The step.
        hyper: The hyper-parameters, as from `state.hyper`.
        arrays: The variable as `"parameter"` and its slots, by name.
        gradient: Tensor of the variable's shape.

    Returns:
        Tensors by name, of the dtypes of the arrays.
    """
    slots = {name: array for name, array in arrays.items() if name != PARAMETER}
    parameter, old = tensors(arrays[PARAMETER], slots, state.dtype)
    parameter, new = advance(state, context, hyper, parameter, old, gradient)
    values = {PARAMETER: parameter}
    for name in slots:
        moved = any(new[name] is old[other] for other in slots if other != name)
        # Else it would be overwritten where it came from before it is written.
        values[name] = ops.copy(new[name]) if moved else new[name]
    return {n: ops.cast(value, arrays[n].dtype) for n, value in values.items()}


def write(variable: Any, value: Any, context: StepContext) -> None:
    """Overwrites a variable, unless the call is one that writes nothing."""
    if context.write_if is not None:
        value = ops.where(context.write_if, value, ops.convert_to_tensor(variable))
    assign(variable, value)


def update(state: VariableState, context: StepContext, gradient: Any) -> None:
    """Updates a variable and its slots by a dense gradient."""
    arrays = {PARAMETER: state.variable, **state.slots}
    # Everything is computed before anything is written: on some backends what was
    # read changes with the variables.
    values = new_values(state, context, state.hyper(context), arrays, gradient)
    for name, value in values.items():
        write(arrays[name], value, context)


def new_global_state(pairs: Pairs, context: StepContext, algorithm: Algorithm) -> Any:
    """Returns the values of the global slots after this step.

    Args:
        pairs: The gradients of this step and their variables.
        context: The step; its `global_state_before` holds the values so far, tensors
            of one dtype.
        algorithm: The algorithm with the global slots.
    """
    before = context.global_state_before
    dtype = dtype_name(next(iter(before.values())).dtype)
    sums: dict[str, Any] = {}
    has_stats = type(algorithm).local_stats is not Algorithm.local_stats
    for gradient, state in pairs if has_stats else ():
        parameter, slots = read(state)
        hyper = state.hyper(context).at(parameter)
        for name, number in algorithm.local_stats(gradient, slots, hyper).items():
            number = ops.cast(number, dtype)
            sums[name] = sums[name] + number if name in sums else number
    hyper = Hyper(
        algorithm,
        context.learning_rate,
        context.iterations,
        dtype,
        algorithm.weight_decay or 0.0,
        before,
        before,
    )
    return algorithm.reduce_stats(sums, dict(before), hyper)


def constants(algorithm: Algorithm, context: StepContext) -> tuple:
    """Returns what becomes a constant in a compiled or recorded rule."""
    attributes = [
        (name, value)
        for name, value in vars(algorithm).items()
        if name[0] != "_" and isinstance(value, (int, float, str, type(None)))
    ]
    return id(algorithm), context.cautious, context.sparse, *attributes
