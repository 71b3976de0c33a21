"""Optimizers that hold other optimizers."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import keras


def wrapped(identifier: Any, owner: str) -> Any:
    """Returns the optimizer that a wrapper is to wrap.

    Args:
        identifier: An optimizer, its name or its config.
        owner: The class of the wrapper.

    Raises:
        TypeError: The identifier is none of these.
        ValueError: The optimizer is a `LossScaleOptimizer`.
    """
    if isinstance(identifier, (str, dict)):
        # Keras changes a config that it reads.
        identifier = keras.optimizers.get(copy.copy(identifier))
    if not isinstance(identifier, keras.optimizers.Optimizer):
        raise TypeError(
            f"{owner}: `optimizer` must be a Keras optimizer, its name or its config. "
            f"Received: optimizer={identifier!r}"
        )
    if isinstance(identifier, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            f"{owner} cannot wrap a LossScaleOptimizer. Put that outside: "
            f"LossScaleOptimizer({owner}(...))."
        )
    return identifier


def nested(optimizer: Any) -> Iterator[Any]:
    """Yields an optimizer and all optimizers that it holds, at any depth."""
    yield optimizer
    inner = getattr(optimizer, "optimizer", None)
    for held in [inner, *getattr(optimizer, "optimizers", [])]:
        if held is not None:
            yield from nested(held)


def leaves(optimizer: Any) -> list[Any]:
    """Returns those optimizers among them that hold no others."""
    return [
        inner
        for inner in nested(optimizer)
        if not hasattr(inner, "optimizer") and not hasattr(inner, "optimizers")
    ]
