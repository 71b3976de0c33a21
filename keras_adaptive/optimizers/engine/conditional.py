"""A branch of a step with side effects, decided while the step runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.contract.choice import choice, is_known


def nothing() -> None:
    """Does nothing."""


def branch(
    predicate: Any,
    if_true: Callable[[], None],
    if_false: Callable[[], None] = nothing,
    *,
    variables: Sequence[keras.Variable],
    changed: Sequence[keras.Variable] | None = None,
) -> None:
    """Calls one of two functions with side effects, also inside JAX's `jit`.

    Args:
        predicate: Bool scalar, a tensor or a variable.
        if_true: Called if the predicate is true.
        if_false: Called if the predicate is false.
        variables: All variables that the functions read or change.
        changed: Those that they change; by default all.
    """
    # `convert_to_tensor` leaves a variable a variable, on TensorFlow.
    predicate = ops.copy(predicate)
    if keras.backend.backend() == "tensorflow" or is_known(predicate):
        choice(predicate, if_true, if_false)
        return
    changed = variables if changed is None else changed

    def values_after(function: Callable[[], None]) -> list[Any]:
        current = [(v, v.value) for v in variables]
        with keras.StatelessScope(state_mapping=current) as scope:
            function()
        return [scope.get_current_value(v) for v in changed]

    values = ops.cond(
        predicate, lambda: values_after(if_true), lambda: values_after(if_false)
    )
    for variable, value in zip(changed, values, strict=True):
        variable.assign(value)
