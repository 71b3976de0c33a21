"""Checks of the gradients that `apply` is given."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

from keras import ops

from keras_adaptive.optimizers.contract.naming import path_of
from keras_adaptive.optimizers.engine.backend import (
    ON_JAX,
    ON_TENSORFLOW,
    ON_TORCH,
    dtype_name,
    is_rows,
    is_sparse,
    waiting_for,
)
from keras_adaptive.optimizers.engine.sparse.primitives import rows

if ON_TORCH:
    from keras_adaptive.optimizers.engine.torch import scope as on_torch


def are_plain(gradients: Sequence[Any], variables: Sequence[Any]) -> bool:
    """Returns whether a backend knows at once that gradients need no check.

    On PyTorch `apply` runs at every step, elsewhere once for a compiled step.
    """
    return ON_TORCH and on_torch.are_plain(gradients, variables)


def check_count(gradients: Sequence[Any], variables: Sequence[Any]) -> None:
    """Checks that there is a gradient, or `None`, for each variable.

    Raises:
        ValueError: There are more or fewer.
    """
    if len(gradients) != len(variables):
        raise ValueError(
            f"{len(gradients)} gradients for {len(variables)} variables: "
            "each variable needs one gradient (or None)."
        )


def in_our_form(gradient: Any) -> Any:
    """Returns a gradient as the engine takes it.

    Keras takes `tf.IndexedSlices` with their ids in a tuple or list, and with arrays:
    ours become tensors. JAX's sparse arrays, which `Embedding(sparse=True)` gives,
    become dense, and so do PyTorch's, unless they are sparse along the first axis.

    Args:
        gradient: Tensor, `tf.IndexedSlices`, sparse array or tensor, or `None`.
    """
    if gradient is None:
        return None
    if ON_TENSORFLOW and is_sparse(gradient):
        values, ids = gradient.values, gradient.indices
        if ops.is_tensor(values) and ops.is_tensor(ids):
            return gradient
        values = ops.convert_to_tensor(values)
        ids = ops.convert_to_tensor(ids, "int64")
        return type(gradient)(values, ids, gradient.dense_shape)
    if ON_JAX:
        return ops.convert_to_tensor(gradient, sparse=False)
    if not ops.is_tensor(gradient):
        gradient = ops.convert_to_tensor(gradient)
    return rows.sparse_by_row(gradient) if ON_TORCH else gradient


def check_variables(variables: Iterable[Any]) -> None:
    """Checks that state can be made for variables.

    Raises:
        ValueError: A variable is complex, or its shape is not fixed.
    """
    for variable in variables:
        name = path_of(variable)
        if "complex" in dtype_name(variable.dtype):
            raise ValueError(
                f"'{name}' is complex, and these optimizers update real variables "
                "only. Keep its real and its imaginary part in two float variables."
            )
        shape = tuple(variable.shape)
        if None in shape:
            raise ValueError(
                f"'{name}' has the shape {shape}, and these optimizers update "
                "variables of a fixed shape only. Create it with the shape of its "
                "value."
            )


def check_gradient(gradient: Any, variable: Any) -> None:
    """Checks the dtype and the shape of a gradient.

    Args:
        gradient: Tensor, sparse tensor, or `None`.
        variable: The variable that it belongs to.

    Raises:
        ValueError: The gradient or the variable is of no float dtype, or the gradient
            has not the variable's shape.
    """
    if gradient is None:
        return
    dtype = dtype_name(variable.dtype)
    if "float" not in dtype:
        raise ValueError(
            f"'{path_of(variable)}' is of the dtype {dtype}, and these optimizers "
            "update variables of a float dtype only. Set its `trainable` to False."
        )
    dtype = dtype_name(gradient.dtype)
    if "float" not in dtype:
        raise ValueError(
            f"The gradient of '{path_of(variable)}' must be of a float dtype. "
            f"Received: {dtype}."
        )
    expected = tuple(variable.shape)
    if ON_TENSORFLOW and is_sparse(gradient):
        received = (*expected[:1], *gradient.values.shape[1:])
    else:
        received = tuple(gradient.shape)
    if received == expected:
        return
    if len(received) != len(expected) or any(
        r is not None and r != e for r, e in zip(received, expected, strict=True)
    ):
        raise ValueError(
            f"The gradient of '{path_of(variable)}' must have the variable's shape "
            f"{expected}. Received: {received}."
        )


def after_checks(
    given: Sequence[Any], by_row: Sequence[Any]
) -> contextlib.AbstractContextManager[Any]:
    """Returns a scope that waits for the checks of all sparse gradients' ids.

    Nothing is written before they have passed.

    Args:
        given: The gradients as `apply` got them.
        by_row: The same gradients, with the sparse ones summed by row.
    """
    checked = [
        new.ids if is_rows(new) else new
        for old, new in zip(given, by_row, strict=True)
        if is_sparse(old)
    ]
    return waiting_for(checked)
