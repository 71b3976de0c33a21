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
    Quotient,
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
    rₜ. While ρₜ ≤ 5, skipped steps are plain and exact: after d of them the weights
    have moved by -m · Σⱼ aₜ₊ⱼ β₁ʲ with aₜ = η / (1 - β₁ᵗ). All rows are brought up to
    date once, after the last plain step. It needs the condition of `Adam`; otherwise
    the default is `"lazy"`.

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

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        step, new = super().rule(gradient, state, hyper)
        momentum = unbiased(new["momentum"], hyper.beta_1, hyper.step)
        plain = hyper.learning_rate * momentum
        length, factor = rectification(hyper)
        return ops.where(length > 5, factor * step, plain), new

    def catch_up(
        self, state: State, skipped_steps: Any, hyper: Hyper
    ) -> tuple[Quotient, State]:
        (m, root, epsilon), new = super().catch_up(state, skipped_steps, hyper)
        # No row is behind at the first rectified step; see `changes_direction`.
        rectified = _length(hyper.step, hyper) > 5
        root = ops.where(rectified, root, ops.ones_like(root))
        epsilon = ops.where(rectified, epsilon, ops.zeros_like(epsilon))
        return Quotient(m, root, epsilon), new

    def drift(self, hyper: Hyper) -> tuple[Any, Any]:
        length, factor = rectification(hyper)
        plain = unbiased(hyper.learning_rate, hyper.beta_1, hyper.step)
        rate = ops.where(length > 5, factor * self._rate(hyper), plain)
        return rate, ops.where(length > 5, self._ratio(hyper), hyper.beta_1)

    def changes_direction(self, hyper: Hyper) -> Any:
        plain = _length(hyper.step, hyper) <= 5
        return ops.logical_and(plain, _length(hyper.step + 1, hyper) > 5)


def rectification(hyper: Hyper) -> tuple[Any, Any]:
    """Returns ρₜ and rₜ, which is NaN or meaningless up to ρₜ = 4."""
    length = _length(hyper.step, hyper)
    return length, ops.sqrt(_certainty(length) / _certainty(_longest(hyper)))


def _length(step: Any, hyper: Hyper) -> Any:
    """Returns ρₜ of a step t."""
    # In float32, 1 - β₂ᵗ would have lost the digits that tell how long it is.
    correction = -ops.expm1(step * ops.log1p(hyper.beta_2 - 1))
    return _longest(hyper) - 2 * step * (1 - correction) / correction


def _longest(hyper: Hyper) -> Any:
    """Returns ρ∞."""
    return 2 / (1 - hyper.beta_2) - 1


def _certainty(length: Any) -> Any:
    """Returns q(ρ): one over the variance of the rate, up to a factor."""
    return (length - 4) * (length - 2) / length
