"""Grams."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.base import PACKAGE
from keras_adaptive.optimizers.catalogue.adam import Adam


@keras.saving.register_keras_serializable(PACKAGE)
class Grams(Adam):
    """Grams: as far as Adam's step, but along the sign of the gradient.

    With the gradient g at step t, the momentum m, the velocity v and the learning
    rate η:

        m ← β₁ m + (1 - β₁) g
        v ← β₂ v + (1 - β₂) g²
        w ← w - η √(1 - β₂ᵗ) / (1 - β₁ᵗ) · |m| / (√v + ε) · sign(g)

    When to use: to try in place of Adam where gradients are not too noisy: every entry
        moves with the current gradient, so the momentum carries none over a bad
        batch. Few independent results so far; `cautious=True` of any optimizer is the
        milder form. What matters: `learning_rate`, then the betas as with Adam.

    Args:
        learning_rate: A float, a schedule, or a callable. Defaults to `0.001`.
        beta_1: Decay rate of the momentum, in `[0, 1)`. Defaults to `0.9`.
        beta_2: Decay rate of the velocity, in `[0, 1)`. Defaults to `0.999`.
        epsilon: Keeps the denominator away from zero; beside the root of the
            uncorrected v, as in the authors' code. Defaults to `1e-6`.
        row_wise: Keep one velocity a row, of mean(g²).
        **options: Keras's base options and `sparse`; see `AdaptiveOptimizer`.

    Sparse gradients, `"deferred"`: the sign of a zero gradient is zero, so the weights
    stand still; after d missed steps m and v have decayed by β₁ᵈ and β₂ᵈ. Exact.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.Grams(0.01), "mse")

    References:

    - [Cao et al., 2024](https://arxiv.org/abs/2412.17107)
    """

    def __init__(
        self,
        learning_rate=0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        row_wise: bool = False,
        **options,
    ):
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, False, row_wise, **options
        )

    def _deferred_needs(self, *_):
        """Nothing: rows stand still whatever the betas are."""

    def rule(self, gradient, state, hyper):
        step, new = super().rule(gradient, state, hyper)
        return ops.abs(step) * ops.sign(gradient), new

    def idle(self, state, missed, hyper):
        return None, super().idle(state, missed, hyper)[1]

    def drift(self, hyper):
        return None
