"""The moving average of the weights, taken at every call of `apply` as in Keras."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from keras import ops

from keras_adaptive.optimizers.engine.backend import dtype_name
from keras_adaptive.optimizers.engine.step import StepContext, VariableState


def momentum(context: StepContext, dtype: str) -> Any:
    """Returns the momentum of this call, 0 before the first update."""
    started = ops.cast(ops.not_equal(context.iterations, 0), dtype)
    return started * ops.convert_to_tensor(context.ema_momentum, dtype)


def averaged(average: Any, parameter: Any, context: StepContext) -> Any:
    """Returns the moving average one call later."""
    dtype = dtype_name(average.dtype)
    share = momentum(context, dtype)
    return share * average + (1 - share) * parameter


def update_averages(states: Iterable[VariableState], context: StepContext) -> None:
    """Takes the averages of variables one call further."""
    for state in states:
        parameter = ops.cast(ops.convert_to_tensor(state.variable), state.average.dtype)
        old = ops.convert_to_tensor(state.average)
        state.average.assign(averaged(old, parameter, context))


def overwrite_by_average(state: VariableState) -> None:
    """Overwrites a variable by its average."""
    # A copy, because two variables of JAX must not share a buffer.
    average = ops.copy(ops.convert_to_tensor(state.average))
    state.variable.assign(ops.cast(average, state.variable.dtype))


def at_average(parameter: Any, slots: Any, average: Any, hyper: Any) -> Any:
    """Moves rows to their averages; a `point` of `RowUpdates.flush`."""
    return average, slots, average
