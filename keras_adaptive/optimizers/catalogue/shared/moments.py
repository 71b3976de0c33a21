"""Running means of gradients and of their squares, and what Adam makes of them."""

from __future__ import annotations

from keras import ops


def averaged(mean, value, beta):
    """A running mean with one more value in it; `beta` is its decay rate."""
    return mean + (1 - beta) * (value - mean)


def unbiased(mean, beta, step):
    """A running mean that began at zero `step` values ago, drawn to zero no more."""
    return mean / (1 - ops.power(beta, step))


def adam_direction(gradient, state, beta_1, beta_2, hyper):
    """Adam's direction m̂ / (√v̂ + ε), with ε beside the root of the unbiased v.

    Args:
        gradient: The gradient, or what takes its place.
        state: The slots `momentum` and `velocity`, among others.
        beta_1: Decay rate of the momentum.
        beta_2: Decay rate of the velocity.
        hyper: The hyper-parameters.

    Returns:
        `(direction, state)`, the state with the two slots only.
    """
    m = averaged(state["momentum"], gradient, beta_1)
    v = averaged(state["velocity"], ops.square(gradient), beta_2)
    root = ops.sqrt(unbiased(v, beta_2, hyper.step))
    direction = unbiased(m, beta_1, hyper.step) / (root + hyper.epsilon)
    return direction, {"momentum": m, "velocity": v}
