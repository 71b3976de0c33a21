"""Grams."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.catalogue.adam import AdamRule
from keras_adaptive.optimizers.catalogue.shared.moments import decayed_moments
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    PACKAGE,
    Hyper,
    LearningRate,
    State,
    hyperparameter,
)


@keras.saving.register_keras_serializable(PACKAGE)
class Grams(AdamRule):
    """Grams: the length of Adam's step, in the direction of the gradient's sign.

    With the gradient g at step t, the momentum m, the velocity v and the learning
    rate η:

        m ← β₁ m + (1 - β₁) g
        v ← β₂ v + (1 - β₂) g²
        w ← w - η √(1 - β₂ᵗ) / (1 - β₁ᵗ) · |m| / (√v + ε) · sign(g)

    When to use: in place of Adam, to try, where gradients are not too noisy: every
        entry moves with the current gradient, so the momentum carries none over a bad
        batch. Not as a safe default: few independent results exist so far, and
        `cautious=True` of any optimizer is the milder form. What matters:
        `learning_rate`, then the betas as with Adam.

    Sparse gradients, `"deferred"`: the sign of a zero gradient is zero, so the weights
    stand still. After d skipped steps m and v have decayed by β₁ᵈ and β₂ᵈ. This is
    exact.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.Grams(0.01), "mse")

    References:

    - [Cao et al., 2024](https://arxiv.org/abs/2412.17107)
    """

    learning_rate: LearningRate = hyperparameter(default=0.001)
    beta_1: float = hyperparameter(
        DECAY_RATE, "β₁, the momentum's decay rate.", default=0.9
    )
    beta_2: float = hyperparameter(
        DECAY_RATE, "β₂, the velocity's decay rate.", default=0.999
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE,
        """ε, the smallest denominator. It is beside the root of the uncorrected v, as
        in the authors' code.""",
        default=1e-6,
    )
    row_wise: bool = hyperparameter(
        doc="Keeps one velocity a row, of mean(g²).", default=False
    )

    def why_not_deferred(self) -> None:
        # Rows stand still, whatever the betas are.
        return None

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        step, new = super().rule(gradient, state, hyper)
        return ops.abs(step) * ops.sign(gradient), new

    def catch_up(
        self, state: State, skipped_steps: Any, hyper: Hyper
    ) -> tuple[None, State]:
        return None, decayed_moments(state, skipped_steps, hyper)

    def drift(self, hyper: Hyper) -> None:
        return None
