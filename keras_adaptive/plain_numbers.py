"""Numbers of any kind, as plain Python numbers."""

from __future__ import annotations

from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Returns a number of any library as a Python number, and all else as it is.

    Args:
        value: NumPy's numbers and arrays without axes, and the scalar tensors of
            TensorFlow, JAX and PyTorch that have a value, become Python numbers.

    Example:
        >>> import numpy as np
        >>> plain(np.int64(3)), plain(np.array(0.5)), plain("adam")
        (3, 0.5, 'adam')
    """
    if isinstance(value, (np.generic, np.ndarray)):
        return value.item() if value.ndim == 0 else value
    is_scalar = tuple(getattr(value, "shape", None) or ()) == ()
    if is_scalar and hasattr(value, "shape") and not hasattr(value, "assign"):
        if hasattr(value, "item"):
            try:
                return value.item()
            except TypeError:
                # JAX traces it: it has no value yet.
                return value
        if hasattr(value, "numpy"):
            return value.numpy().item()
    return value


def make_plain(instance: Any, *fields: str) -> None:
    """Makes fields of an instance, which may be frozen, plain Python numbers.

    Args:
        instance: An instance of a dataclass, while it is being made.
        fields: The names of the fields.
    """
    for field in fields:
        object.__setattr__(instance, field, plain(getattr(instance, field)))
