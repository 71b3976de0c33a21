"""A choice that a rule makes while a step runs."""

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

    It is `ops.cond`, except that outside of JAX's `jit` it compiles nothing.

    Args:
        predicate: Bool scalar tensor.
        if_true: Computes the value if the predicate is true.
        if_false: Computes the value if it is false, of the same structure.
    """
    if keras.backend.backend() == "jax" and not isinstance(predicate, jax.core.Tracer):
        return if_true() if predicate else if_false()
    return ops.cond(predicate, if_true, if_false)
