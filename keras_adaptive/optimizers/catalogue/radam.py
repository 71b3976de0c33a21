"""RAdam."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.catalogue.adam import AdamRule
from keras_adaptive.optimizers.catalogue.shared.moments import unbiased
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    PACKAGE,
    LearningRate,
    hyperparameter,
)


@keras.saving.register_keras_serializable(PACKAGE)
class RAdam(AdamRule):
    """RAdam: Adam with a warmup that follows from its own second moment.

    Adam's first steps divide by a v of few gradients, whose variance is large. With
    the length of the average v at step t,

        ρₜ = ρ∞ - 2 t β₂ᵗ / (1 - β₂ᵗ),  ρ∞ = 2 / (1 - β₂) - 1

    and m and v as in `Adam`:

        w ← w - η m / (1 - β₁ᵗ)             while ρₜ ≤ 5
        w ← w - rₜ · Adam's step            afterwards
        rₜ² = q(ρₜ) / q(ρ∞),  q(ρ) = (ρ - 4) (ρ - 2) / ρ

    With the default β₂ the first five steps are those of the plain momentum; rₜ is
    0.03 at the sixth, 0.65 at the thousandth, and goes to one.

    When to use: in place of Adam where its first steps do harm and a warmup of
        `learning_rate` would have to be tuned. Not together with such a warmup, which
        does the same; and where gradients are large the first five steps, which are
        not normalised, are too. What matters: `learning_rate`, then `beta_2`, which
        sets the length of the warmup.

    Sparse gradients, `"deferred"`: as `Adam`, every skipped step times its rₜ. What a
    row that was touched while ρₜ ≤ 5 would have moved along m in the rest of these
    steps is left out: at most the sum of η |m| / (1 - β₁ᵗ) over them. It needs a β₂
    above `2 / 3`, and what `Adam` needs; otherwise the default is `"lazy"`.

    Raises:
        ValueError: As `Adam`.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.RAdam(0.01), "mse")

    References:

    - [Liu et al., 2019](https://arxiv.org/abs/1908.03265)
    """

    learning_rate: LearningRate = hyperparameter(0.001)
    beta_1: float = hyperparameter(0.9, DECAY_RATE, "Decay rate of the momentum.")
    beta_2: float = hyperparameter(
        0.999,
        DECAY_RATE,
        """Decay rate of the velocity. Up to `2 / 3` ρₜ never exceeds 5, and
        every step is one of the momentum.""",
    )
    epsilon: float = hyperparameter(
        1e-7,
        NON_NEGATIVE,
        """Keeps the denominator away from zero; beside the root of the
        uncorrected v, as in `Adam`.""",
    )
    row_wise: bool = hyperparameter(False, doc="Keep one velocity a row, of mean(g²).")

    def why_not_deferred(self):
        if self.beta_2 > 2 / 3:
            return super().why_not_deferred()
        return (
            "it needs beta_2 > 2/3, or no step is rectified. "
            f"Received: beta_2={self.beta_2}."
        )

    def rule(self, gradient, state, hyper):
        step, new = super().rule(gradient, state, hyper)
        momentum = unbiased(new["momentum"], hyper.beta_1, hyper.step)
        plain = hyper.learning_rate * momentum
        length, factor = rectification(hyper)
        return ops.where(length > 5, factor * step, plain), new

    def drift(self, hyper):
        rate, ratio = super().drift(hyper)
        length, factor = rectification(hyper)
        return ops.where(length > 5, factor * rate, ops.zeros_like(rate)), ratio


def rectification(hyper):
    """The length ρₜ of the average v, and rₜ (NaN or meaningless up to ρₜ = 4)."""
    # In float32, 1 - β₂ᵗ would have lost the digits that tell how long it is.
    correction = -ops.expm1(hyper.step * ops.log1p(hyper.beta_2 - 1))
    longest = 2 / (1 - hyper.beta_2) - 1
    length = longest - 2 * hyper.step * (1 - correction) / correction
    return length, ops.sqrt(_certainty(length) / _certainty(longest))


def _certainty(length):
    """One over the variance of the rate that an average of a length gives, scaled."""
    return (length - 4) * (length - 2) / length
