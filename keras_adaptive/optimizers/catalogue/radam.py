"""RAdam."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.catalogue.adam import AdamRule
from keras_adaptive.optimizers.catalogue.shared.moments import unbiased
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
class RAdam(AdamRule):
    """RAdam: Adam with a warmup that follows from its second moment.

    Adam's first steps divide by a v that averages few gradients and has a large
    variance. With the length of this average at step t,

        ρₜ = ρ∞ - 2 t β₂ᵗ / (1 - β₂ᵗ),  ρ∞ = 2 / (1 - β₂) - 1

    and m and v as in `Adam`:

        w ← w - η m / (1 - β₁ᵗ)             while ρₜ ≤ 5
        w ← w - rₜ · Adam's step            afterwards
        rₜ² = q(ρₜ) / q(ρ∞),  q(ρ) = (ρ - 4) (ρ - 2) / ρ

    With the default β₂, the first five steps follow the plain momentum. rₜ is 0.03 at
    the sixth step, 0.65 at the thousandth, and goes to one. With β₂ ≤ `2 / 3`, ρₜ never
    exceeds 5 and every step follows the plain momentum.

    When to use: instead of Adam where its first steps do harm, to save tuning a warmup
        of `learning_rate`. Avoid it together with such a warmup, which has the same
        effect, and where gradients are large, because the first five steps are not
        normalized. What matters: `learning_rate`, then `beta_2`, which sets the length
        of the warmup.

    Sparse gradients, `"deferred"`: as in `Adam`, with every skipped step scaled by its
    rₜ. A row that was touched while ρₜ ≤ 5 does not move along m in the remaining steps
    with ρₜ ≤ 5. This omits at most the sum of η |m| / (1 - β₁ᵗ) over these steps.
    `"deferred"` needs β₂ > `2 / 3` and the condition of `Adam`; otherwise the default
    is `"lazy"`.

    Raises:
        ValueError: As for `Adam`.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.RAdam(0.01), "mse")

    References:

    - [Liu et al., 2019](https://arxiv.org/abs/1908.03265)
    """

    learning_rate: LearningRate = hyperparameter(default=0.001)
    beta_1: float = hyperparameter(
        DECAY_RATE, "β₁, decay rate of the momentum.", default=0.9
    )
    beta_2: float = hyperparameter(
        DECAY_RATE, "β₂, decay rate of the velocity.", default=0.999
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE, "ε, added to √v as in `Adam`.", default=1e-7
    )
    row_wise: bool = hyperparameter(
        doc="Keeps one velocity a row, of mean(g²).", default=False
    )

    def why_not_deferred(self) -> str | None:
        if self.beta_2 > 2 / 3:
            return super().why_not_deferred()
        return (
            "it needs beta_2 > 2/3, or no step is rectified. "
            f"Received: beta_2={self.beta_2}."
        )

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        step, new = super().rule(gradient, state, hyper)
        momentum = unbiased(new["momentum"], hyper.beta_1, hyper.step)
        plain = hyper.learning_rate * momentum
        length, factor = rectification(hyper)
        return ops.where(length > 5, factor * step, plain), new

    def drift(self, hyper: Hyper) -> tuple[Any, Any]:
        rate = self._rate(hyper)
        length, factor = rectification(hyper)
        rectified = ops.where(length > 5, factor * rate, ops.zeros_like(rate))
        return rectified, self._ratio(hyper)


def rectification(hyper: Hyper) -> tuple[Any, Any]:
    """Returns ρₜ and rₜ, which is NaN or meaningless up to ρₜ = 4."""
    # In float32, 1 - β₂ᵗ would have lost the digits that tell how long it is.
    correction = -ops.expm1(hyper.step * ops.log1p(hyper.beta_2 - 1))
    longest = 2 / (1 - hyper.beta_2) - 1
    length = longest - 2 * hyper.step * (1 - correction) / correction
    return length, ops.sqrt(_certainty(length) / _certainty(longest))


def _certainty(length: Any) -> Any:
    """Returns q(ρ): one over the variance of the rate, up to a factor."""
    return (length - 4) * (length - 2) / length
