"""A choice that is made while a step runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

if keras.backend.backend() == "jax":
    import jax


def choice(
    predicate: Any, if_true: Callable[[], Any], if_false: Callable[[], Any]
) -> Any:
    """Returns the value of one of two functions without side effects.

    It is `ops.cond`, except that Python chooses where the predicate has a value.

    Args:
        predicate: Bool scalar tensor.
        if_true: Computes the value if the predicate is true.
        if_false: Computes the value if it is false, of the same structure.
    """
    if is_known(predicate):
        return if_true() if predicate else if_false()
    return ops.cond(predicate, if_true, if_false)


def is_known(predicate: Any) -> bool:
    """Returns whether Python can choose at once, on JAX and PyTorch.

    On JAX outside of `jit` a conditional would be compiled at every call, and on
    PyTorch Keras's takes longer than most of what it decides about.
    """
    if keras.backend.backend() == "jax":
        return not isinstance(predicate, jax.core.Tracer)
    return keras.backend.backend() == "torch"
