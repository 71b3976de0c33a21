"""The optimizers that Mechanic can wrap, and those that need care."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.contract import PARAMETER, Slot
from keras_adaptive.optimizers.wrappers.base import Wrapper
from keras_adaptive.optimizers.wrappers.nesting import leaves, nested
from keras_adaptive.optimizers.wrappers.sam import SharpnessAware

POINTS = {"Ftrl", "ScheduleFreeAdamW"}
"""Classes, ours or Keras's, that keep points although no slot says so."""

SIZES = {"Adafactor", "LARS", "Lamb"}
"""Classes, ours or Keras's, whose steps are in proportion to the weights."""

DECAYS = (
    "weight_decay",
    "adam_weight_decay",
    "l1_regularization_strength",
    "l2_regularization_strength",
    "l2_shrinkage_regularization_strength",
)
"""Arguments that draw weights to zero."""


def keeps_points(optimizer: Any) -> bool:
    """Returns whether an optimizer keeps points, so that it must not be moved.

    Points are moving averages, slow weights, initial weights and the like.
    """
    return any(
        getattr(inner, "use_ema", False)
        or getattr(inner, "evaluation_point", None)
        or _classes(inner) & POINTS
        or any(slot.initial == PARAMETER for slot in _slots(inner))
        for inner in nested(optimizer)
    )


def calls_per_update(optimizer: Any) -> set[int]:
    """Returns how many calls of `apply` the optimizers need for an update."""
    return {leaf.gradient_accumulation_steps or 1 for leaf in leaves(optimizer)}


def check_composition(owner: str, optimizer: Any) -> None:
    """Checks that one scale can tune an optimizer and all that it holds.

    Args:
        owner: The class of the wrapper.
        optimizer: The wrapped optimizer.

    Raises:
        ValueError: It is or holds SAM, or optimizers that differ in their accumulation.
    """
    for inner in nested(optimizer):
        if isinstance(inner, SharpnessAware):
            sam = type(inner).__name__
            raise ValueError(
                f"{owner} cannot wrap {sam}, half of whose calls are no steps, and "
                f"whose distance it would scale. Use {sam}({owner}(...))."
            )
    calls = calls_per_update(optimizer)
    if len(calls) > 1:
        raise ValueError(
            f"{owner} cannot wrap optimizers that differ in "
            "`gradient_accumulation_steps`: its scale is one number for all of "
            f"them. Received: {sorted(calls)}."
        )


def check_points(owner: str, optimizer: Any, variables: Iterable[Any]) -> None:
    """Checks that an optimizer that keeps points works with unscaled weights.

    Args:
        owner: The class of the wrapper.
        optimizer: The wrapped optimizer.
        variables: The variables of the model.

    Raises:
        ValueError: The optimizer uses the size of the weights, or variables have 16
            bits.
    """
    for inner in nested(optimizer):
        found = next((name for name in DECAYS if _decays(inner, name)), None)
        if found or _classes(inner) & SIZES:
            why = f"`{found}`" if found else "steps in proportion to the weights"
            raise ValueError(
                f"{owner} cannot wrap {type(inner).__name__} with {why} together "
                "with a moving average, slow weights or other points that the "
                "optimizer keeps: these are of its own unscaled weights, not of "
                "the model's. Leave one of the two out."
            )
    for variable in variables:
        dtype = keras.backend.standardize_dtype(variable.dtype)
        if dtype in ("float16", "bfloat16"):
            raise ValueError(
                f"{owner} around an optimizer that keeps a moving average, slow "
                "weights or other points needs variables of at least 32 bits: its "
                f"own unscaled weights are large. '{variable.path}' is {dtype}. "
                "Use a policy such as 'mixed_bfloat16'."
            )


def _classes(optimizer: Any) -> set[str]:
    return {cls.__name__ for cls in type(optimizer).__mro__}


def _slots(optimizer: Any) -> Iterable[Slot]:
    ours = isinstance(optimizer, (AdaptiveOptimizer, Wrapper))
    return optimizer.slots.values() if ours else ()


def _decays(optimizer: Any, name: str) -> bool:
    fallback = getattr(optimizer, "fallback", None)
    return bool(getattr(optimizer, name, None) or getattr(fallback, name, None))
