"""Adamax."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    PACKAGE,
    LearningRate,
    Slot,
    hyperparameter,
)


@keras.saving.register_keras_serializable(PACKAGE)
class Adamax(AdaptiveOptimizer):
    """Adamax: Adam with a decaying maximum in place of the root mean square.

    With the gradient g at step t, the momentum m, the norm u and the learning rate η:

        m ← β₁ m + (1 - β₁) g
        u ← max(β₂ u, |g|)
        w ← w - η / (1 - β₁ᵗ) · m / (u + ε)

    No entry moves by more than about η in one step.

    When to use: in place of Adam where single gradients are huge, as with rare words:
        one of them holds the rate down, but never lets a step be long. Not where such
        gradients are noise: it takes thousands of steps to forget one. What matters:
        `learning_rate`, then `beta_2`.

    Sparse gradients, `"deferred"`: after d steps with zero gradient m and u have
    decayed by β₁ᵈ and β₂ᵈ, and the weights have moved by

        -m / (u + ε) · Σⱼ aₜ₊ⱼ rʲ,  aₜ = η / (1 - β₁ᵗ),  r = β₁ / β₂

    It is exact but for ε, which is taken as decaying with u: the j-th skipped step is
    too long by the share (β₂⁻ʲ - 1) ε / (u + ε). It needs r ≤ 1: otherwise the
    default is `"lazy"`.

    Raises:
        ValueError: As `AdaptiveOptimizer`; also if `sparse="deferred"` is asked
            for with `beta_1` above `beta_2`.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.layers.Embedding(1000, 8)])
    >>> model.compile(keras_adaptive.optimizers.Adamax(0.002), "mse")

    References:

    - [Kingma & Ba, 2014](https://arxiv.org/abs/1412.6980), section 7.1
    """

    learning_rate: LearningRate = hyperparameter(0.001)
    beta_1: float = hyperparameter(0.9, DECAY_RATE, "Decay rate of the momentum.")
    beta_2: float = hyperparameter(0.999, DECAY_RATE, "Decay rate of the norm.")
    epsilon: float = hyperparameter(
        1e-7, NON_NEGATIVE, "Keeps the denominator away from zero."
    )

    slots = {"momentum": Slot(), "norm": Slot()}

    def why_not_deferred(self):
        if self.beta_1 <= self.beta_2:
            return super().why_not_deferred()
        return (
            "it needs beta_1 <= beta_2, or the steps of an untouched row grow without "
            f"bound. Received: beta_1={self.beta_1}, beta_2={self.beta_2}."
        )

    def _rate(self, hyper):
        return hyper.learning_rate / (1 - ops.power(hyper.beta_1, hyper.step))

    def rule(self, gradient, state, hyper):
        m, u = state["momentum"], state["norm"]
        m = m + (1 - hyper.beta_1) * (gradient - m)
        u = ops.maximum(hyper.beta_2 * u, ops.abs(gradient))
        step = self._rate(hyper) * m / (u + hyper.epsilon)
        return step, {"momentum": m, "norm": u}

    def catch_up(self, state, skipped_steps, hyper):
        m, u = state["momentum"], state["norm"]
        return m / (u + hyper.epsilon), {
            "momentum": ops.power(hyper.beta_1, skipped_steps) * m,
            "norm": ops.power(hyper.beta_2, skipped_steps) * u,
        }

    def drift(self, hyper):
        ratio = hyper.beta_1 / hyper.beta_2 if self.beta_1 > 0 else hyper.beta_1
        return self._rate(hyper), ratio
