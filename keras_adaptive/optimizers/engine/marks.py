"""Marks: whether the weights are those that an optimizer wrote last.

A mark is an int32 variable. It is 0 while a step may have changed the weights. When an
optimizer leaves them for others to use, it holds a checksum of them: positive at an
evaluation point apart from the training point, negative at the training point itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.contract.choice import choice
from keras_adaptive.optimizers.engine.backend import dtype_name


def checksum(variables: Iterable[Any]) -> Any:
    """Returns a positive int32 scalar that follows from the bits of all variables."""
    with keras.name_scope("checksum"):
        total = ops.zeros((), "int32")
        for variable in variables:
            dtype = dtype_name(variable.dtype)
            bits = "int" + "".join(filter(str.isdigit, dtype.partition("_")[0]))[-2:]
            value = ops.convert_to_tensor(variable)
            if dtype in ("float16", "bfloat16", "float32", "float64"):
                value = ops.view(value, bits)
            else:
                value = ops.cast(value, "int32")
            total = total * 31 + ops.cast(ops.sum(ops.cast(value, "int32")), "int32")
    return ops.bitwise_or(ops.bitwise_and(total, 2**31 - 1), 1)


def are_replaced(mark: Any, variables: Iterable[Any]) -> Any:
    """Returns a bool scalar, whether somebody has set the weights since the mark.

    Args:
        mark: The mark.
        variables: The weights. Where the mark is 0, they are not read.
    """
    mark, variables = ops.copy(mark), list(variables)
    return choice(
        ops.not_equal(mark, 0),
        lambda: ops.not_equal(ops.abs(mark), checksum(variables)),
        lambda: ops.zeros((), "bool"),
    )


def mark_again(mark: Any, variables: Iterable[Any], same: Any) -> None:
    """Marks weights that somebody rounded, but did not set.

    Args:
        mark: The mark; where it is 0, it stays.
        variables: The weights.
        same: Bool scalar, whether to do so.
    """
    old, variables = ops.copy(mark), list(variables)
    mark.assign(
        choice(
            ops.logical_and(same, ops.not_equal(old, 0)),
            lambda: ops.sign(old) * checksum(variables),
            lambda: old,
        )
    )
