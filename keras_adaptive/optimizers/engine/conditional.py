"""A branch of a step with side effects, decided while the step runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

if keras.backend.backend() == "jax":
    import jax


def nothing() -> None:
    """Does nothing."""


def chosen(
    predicate: Any, if_true: Callable[[], Any], if_false: Callable[[], Any]
) -> Any:
    """Returns what one of two functions returns.

    They have no side effects, but for those on TensorFlow and PyTorch.

    Args:
        predicate: Bool scalar tensor.
        if_true: Called if the predicate is true.
        if_false: Called if the predicate is false.
    """
    if _is_known(predicate):
        return if_true() if predicate else if_false()
    return ops.cond(predicate, if_true, if_false)


def _is_known(predicate: Any) -> bool:
    """Returns whether Python can decide at once.

    On JAX outside of `jit` a conditional would be compiled at every call, and on
    PyTorch Keras's takes longer than most of what it decides about.
    """
    if keras.backend.backend() == "jax":
        return not isinstance(predicate, jax.core.Tracer)
    return keras.backend.backend() == "torch"


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
    if keras.backend.backend() == "tensorflow" or _is_known(predicate):
        chosen(predicate, if_true, if_false)
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
