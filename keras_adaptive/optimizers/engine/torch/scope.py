"""Whether Keras writes variables at once, and the tensors that it writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import torch


def within_scope() -> bool:
    """Returns whether a `keras.StatelessScope` keeps what is written."""
    with keras.StatelessScope(initialize_variables=False) as probe:
        return probe.original_scope is not None


def tensor_of(variable: Any) -> Any:
    """Returns a variable's tensor outside of any scope; `None` before it has one.

    Reading `variable.value` looks for scopes in a dozen Python calls. Where every
    variable is read in every step, that is a good part of a small model's step.
    """
    return variable._value


def are_plain(gradients: Sequence[Any], variables: Sequence[Any]) -> bool:
    """Returns whether gradients need neither a check nor a conversion.

    They are dense float tensors of the shapes and dtypes of their variables, as those
    of a `fit` on PyTorch.
    """
    return len(gradients) == len(variables) and all(
        map(_is_plain, gradients, map(tensor_of, variables))
    )


def _is_plain(gradient: Any, value: Any) -> bool:
    return (
        isinstance(gradient, torch.Tensor)
        and isinstance(value, torch.Tensor)
        and gradient.layout is torch.strided
        and gradient.dtype is value.dtype
        and value.is_floating_point()
        and gradient.shape == value.shape
    )
