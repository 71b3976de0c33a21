"""Norms of whole variables."""

from __future__ import annotations

from typing import Any

from keras import ops


def squared_norm(values: Any) -> Any:
    """Returns the sum of all squares."""
    return ops.sum(ops.square(values))


def norm(values: Any) -> Any:
    """Returns the root of the sum of all squares.

    (`ops.norm` passes through float32.)
    """
    return ops.sqrt(squared_norm(values))
