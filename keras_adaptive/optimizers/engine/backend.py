"""What the engine does differently on each Keras backend."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras import ops
from keras.src.backend.common import global_state

from keras_adaptive.optimizers.engine.row_gradient import Rows

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
ON_JAX = keras.backend.backend() == "jax"
ON_TORCH = keras.backend.backend() == "torch"

AUTOCAST = "autocast_scope"
"""Keras's name of the scope in which it casts variables."""

if ON_TENSORFLOW:
    import tensorflow as tf


def outside_of_graphs() -> contextlib.AbstractContextManager[Any]:
    """Returns the scope for what must not become part of a traced step.

    TensorFlow may build an optimizer while it traces the first step.
    """
    return tf.init_scope() if ON_TENSORFLOW else contextlib.nullcontext()


def outside_of_step() -> bool:
    """Returns whether code runs at once, and not as a part of a traced step."""
    return not ON_TENSORFLOW or bool(tf.executing_eagerly())


def have_values(variables: Sequence[Any]) -> bool:
    """Returns whether variables have their first values; called outside of graphs.

    TensorFlow initializes the variables of a model that is built while a function is
    traced after the first trace.
    """
    return not ON_TENSORFLOW or all(
        bool(raw(variable).is_initialized()) for variable in variables
    )


_NAMES: dict[Any, str] = {}


def dtype_name(dtype: Any) -> str:
    """Returns Keras's name of a backend's dtype, at the price of a look-up."""
    # `torch.compile` warns of `functools.cache`.
    if dtype not in _NAMES:
        _NAMES[dtype] = str(keras.backend.standardize_dtype(dtype))
    return _NAMES[dtype]


def compute_dtype(variable: Any) -> str:
    """Returns the dtype of a variable's state: float32 for variables of 16 bits."""
    dtype = dtype_name(variable.dtype)
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def is_sparse(gradient: Any) -> bool:
    """Returns whether a gradient is `tf.IndexedSlices`, or sparse on PyTorch."""
    if ON_TENSORFLOW:
        return isinstance(gradient, tf.IndexedSlices)
    return ON_TORCH and getattr(gradient, "is_sparse", False)


def is_rows(gradient: Any) -> bool:
    """Returns whether a gradient has been summed by row."""
    return isinstance(gradient, Rows)


def map_values(function: Callable[..., Any], gradient: Any, *arguments: Any) -> Any:
    """Applies a function to a gradient, or to the values of its rows."""
    if isinstance(gradient, Rows):
        return gradient.replace(function(gradient.values, *arguments))
    return function(gradient, *arguments)


def values_now(variable: Any) -> Any:
    """Returns the values of a variable as a tensor.

    On TensorFlow they are read here, and not where they are used.
    """
    if ON_TENSORFLOW:
        return tf.convert_to_tensor(raw(variable))
    return ops.convert_to_tensor(variable)


def cast(tensor: Any, dtype: str) -> Any:
    """Returns a tensor of another dtype, or the tensor itself if it has that."""
    return tensor if dtype_name(tensor.dtype) == dtype else ops.cast(tensor, dtype)


def assign(variable: Any, value: Any) -> None:
    """Overwrites a variable."""
    target = raw(variable) if ON_TENSORFLOW else variable
    target.assign(value)


def raw(variable: Any) -> Any:
    """Returns the backend's own variable of a Keras variable."""
    return variable.value if isinstance(variable, keras.Variable) else variable


@contextlib.contextmanager
def in_own_dtype() -> Iterator[None]:
    """A scope in which variables are read in their own dtype.

    In a layer of mixed precision, Keras casts every variable that is read, and all of
    it. There is no public way out; `AutocastScope(None)` takes float64 for float32.
    """
    scope = global_state.get_global_attribute(AUTOCAST)
    global_state.set_global_attribute(AUTOCAST, None)
    try:
        yield
    finally:
        global_state.set_global_attribute(AUTOCAST, scope)


def waiting_for(tensors: Sequence[Any]) -> contextlib.AbstractContextManager[Any]:
    """Returns a scope in which operations wait until tensors have been computed."""
    if ON_TENSORFLOW and tensors:
        return tf.control_dependencies(tensors)
    return contextlib.nullcontext()
