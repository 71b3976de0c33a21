"""Running means of gradients and of their squares, and Adam's use of them."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_adaptive.optimizers.contract import Hyper, State


def averaged(mean: Any, value: Any, beta: Any) -> Any:
    """Returns a running mean after one more value; `beta` is its decay rate."""
    return mean + (1 - beta) * (value - mean)


def unbiased(mean: Any, beta: Any, step: Any) -> Any:
    """Corrects a running mean for its start at zero, `step` values ago."""
    return mean / (1 - ops.power(beta, step))


def decayed_moments(state: State, skipped_steps: Any, hyper: Hyper) -> State:
    """Returns Adam's moments after steps with zero gradient."""
    return {
        "momentum": ops.power(hyper.beta_1, skipped_steps) * state["momentum"],
        "velocity": ops.power(hyper.beta_2, skipped_steps) * state["velocity"],
    }


def adam_direction(
    gradient: Any, state: State, beta_1: Any, beta_2: Any, hyper: Hyper
) -> tuple[Any, State]:
    """Returns Adam's direction m̂ / (√v̂ + ε), with ε beside the root.

    Args:
        gradient: The gradient, or its replacement.
        state: The slots `momentum` and `velocity`, among others.
        beta_1: Decay rate of the momentum.
        beta_2: Decay rate of the velocity.
        hyper: The hyper-parameters.

    Returns:
        `(direction, state)`. The state has the two slots only.
    """
    m = averaged(state["momentum"], gradient, beta_1)
    v = averaged(state["velocity"], ops.square(gradient), beta_2)
    root = ops.sqrt(unbiased(v, beta_2, hyper.step))
    direction = unbiased(m, beta_1, hyper.step) / (root + hyper.epsilon)
    return direction, {"momentum": m, "velocity": v}


def unbounded_drift(condition: str, beta_1: float, beta_2: float) -> str:
    """Returns why decay rates that break a condition rule out deferred updates."""
    return (
        f"it needs {condition}, or the steps of an untouched row grow without bound. "
        f"Received: beta_1={beta_1}, beta_2={beta_2}."
    )
