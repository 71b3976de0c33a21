"""Reading, comparing and overwriting the weights of a model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.contract.norms import squared_norm


def write(variable: Any, value: Any) -> None:
    """Assigns a copy, because two variables of JAX must not share a buffer."""
    variable.assign(ops.cast(ops.copy(value), variable.dtype))


def constrained(variable: Any, value: Any) -> Any:
    """Returns the value that a variable has after its constraint."""
    value = ops.cast(value, variable.dtype)
    return value if variable.constraint is None else variable.constraint(value)


@contextlib.contextmanager
def unconstrained(variables: Iterable[Any]) -> Iterator[None]:
    """Removes the constraints of variables for a while."""
    constraints = [(variable, variable.constraint) for variable in variables]
    for variable, _ in constraints:
        variable.constraint = None
    try:
        yield
    finally:
        for variable, constraint in constraints:
            variable.constraint = constraint


def norm(tensors: Iterable[Any]) -> Any:
    """Returns the norm of several tensors together, plus 1e-12."""
    squares = [squared_norm(tensor) for tensor in tensors]
    dtype = widest(squares)
    total = sum(ops.cast(square, dtype) for square in squares)
    return ops.sqrt(total) + ops.convert_to_tensor(1e-12, dtype)


def widest(tensors: Iterable[Any]) -> str:
    """Returns the float dtype that holds the values of all tensors."""
    # `keras.backend.result_type` makes float32 of float64.
    dtypes = {keras.backend.standardize_dtype(tensor.dtype) for tensor in tensors}
    return "float64" if "float64" in dtypes else "float32"
