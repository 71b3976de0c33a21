"""RAdam."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.base import PACKAGE
from keras_adaptive.optimizers.catalogue.adam import Adam
from keras_adaptive.optimizers.catalogue.shared.moments import unbiased


@keras.saving.register_keras_serializable(PACKAGE)
class RAdam(Adam):
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

    Args:
        learning_rate: A float, a schedule, or a callable. Defaults to `0.001`.
        beta_1: Decay rate of the momentum, in `[0, 1)`. Defaults to `0.9`.
        beta_2: Decay rate of the velocity, in `[0, 1)`. Up to `2 / 3` ρₜ never
            exceeds 5, and every step is one of the momentum. Defaults to `0.999`.
        epsilon: Keeps the denominator away from zero; beside the root of the
            uncorrected v, as in `Adam`. Defaults to `1e-7`.
        row_wise: Keep one velocity a row, of mean(g²).
        **options: Keras's base options and `sparse`; see `AdaptiveOptimizer`.

    Sparse gradients, `"deferred"`: as `Adam`, every missed step times its rₜ. What a
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

    def __init__(
        self,
        learning_rate=0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        row_wise: bool = False,
        **options,
    ):
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, row_wise=row_wise, **options
        )
        self._deferred_needs(
            beta_2 > 2 / 3,
            f"beta_2 > 2/3, or no step is rectified. Received: beta_2={beta_2}.",
            options.get("sparse"),
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
