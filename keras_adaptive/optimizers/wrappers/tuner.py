"""The tuner of Mechanic: finds the scale of the steps, without side effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras import ops

from keras_adaptive.optimizers.wrappers.weights import norm

INITIAL = {"scale": 0.0, "reward": 0.0, "squares": 0.0, "largest": 1e-6}
"""The state of a tuner by name, and its initial values."""


def product(
    gradients: Mapping[int, Any],
    displacements: Mapping[int, Any],
    weights: Mapping[int, Any],
    scale: Any,
    s_decay: float,
) -> Any:
    """Returns h, the first-order decrease of the loss along Δ.

    Args:
        gradients: g, by the index of the variable.
        displacements: Δ, by the index of the variable.
        weights: w⁺, by the index of the variable.
        scale: S, the sum of the tuners' scales.
        s_decay: λ.
    """

    def along(tensors: Mapping[int, Any]) -> Any:
        products = (ops.sum(displacements[i] * tensor) for i, tensor in tensors.items())
        return sum(ops.cast(value, scale.dtype) for value in products)

    slope = along(gradients)
    if s_decay:
        size = norm(gradients.values()) / norm(weights.values())
        slope = slope + s_decay * scale * size * along(weights)
    return -slope


def tuned(
    state: Mapping[str, Any],
    h: Any,
    betas: Sequence[float],
    s_init: float,
    epsilon: float,
) -> dict[str, Any]:
    """Returns the state of the tuners after one step.

    Args:
        state: The scales s, rewards r, squares v and largest products m, one for each
            tuner.
        h: The product of this step.
        betas: β of each tuner.
        s_init: s₀, the initial scale.
        epsilon: Added to the denominator.
    """
    beta = ops.convert_to_tensor(betas, h.dtype)
    reward = beta * state["reward"] + state["scale"] * h
    new = {
        "largest": ops.maximum(beta * state["largest"], ops.abs(h)),
        "squares": beta**2 * state["squares"] + h**2,
        "reward": ops.maximum(reward, ops.zeros_like(reward)),
    }
    wealth = new["largest"] * s_init / len(betas) + new["reward"]
    new["scale"] = wealth / (ops.sqrt(new["squares"]) + epsilon)
    return new
