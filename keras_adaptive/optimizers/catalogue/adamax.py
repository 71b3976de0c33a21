"""Adamax."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.moments import (
    averaged,
    unbiased,
    unbounded_drift,
)
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    PACKAGE,
    Hyper,
    LearningRate,
    Quotient,
    Slot,
    State,
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
        such a gradient holds the rate down, but never makes a step long. Not where such
        gradients are noise: it takes thousands of steps to forget one. What matters:
        `learning_rate`, then `beta_2`.

    Sparse gradients, `"deferred"`: after d steps with zero gradient m and u have
    decayed by β₁ᵈ and β₂ᵈ, and the weights have moved by

        -m / (u + ε) · Σⱼ aₜ₊ⱼ rʲ,  aₜ = η / (1 - β₁ᵗ),  r = β₁ / β₂

    if ε is small. It grows relative to u, by 1 / β₂ a step, and takes part with the
    mean of this growth, as in `Adam`. It needs r ≤ 1; otherwise the default is
    `"lazy"`.

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

    learning_rate: LearningRate = hyperparameter(default=0.001)
    beta_1: float = hyperparameter(
        DECAY_RATE, "β₁, the momentum's decay rate.", default=0.9
    )
    beta_2: float = hyperparameter(
        DECAY_RATE, "β₂, the norm's decay rate.", default=0.999
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE, "ε, the smallest denominator.", default=1e-7
    )

    slots = {"momentum": Slot(), "norm": Slot()}

    def why_not_deferred(self) -> str | None:
        if self.beta_1 <= self.beta_2:
            return super().why_not_deferred()
        return unbounded_drift("beta_1 <= beta_2", self.beta_1, self.beta_2)

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        m = averaged(state["momentum"], gradient, hyper.beta_1)
        u = ops.maximum(hyper.beta_2 * state["norm"], ops.abs(gradient))
        rate, _ = self.drift(hyper)
        return rate * m / (u + hyper.epsilon), {"momentum": m, "norm": u}

    def catch_up(
        self, state: State, skipped_steps: Any, hyper: Hyper
    ) -> tuple[Quotient, State]:
        m, u = state["momentum"], state["norm"]
        return Quotient(m, u, hyper.epsilon), {
            "momentum": ops.power(hyper.beta_1, skipped_steps) * m,
            "norm": ops.power(hyper.beta_2, skipped_steps) * u,
        }

    def drift(self, hyper: Hyper) -> tuple[Any, Any]:
        ratio = hyper.beta_1 / hyper.beta_2 if self.beta_1 > 0 else hyper.beta_1
        return unbiased(hyper.learning_rate, hyper.beta_1, hyper.step), ratio

    def floor_growth(self, hyper: Hyper) -> tuple[Any, Any]:
        return 1.0, 1 / hyper.beta_2
