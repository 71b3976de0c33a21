"""Yogi."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.moments import averaged, unbiased
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    PACKAGE,
    LearningRate,
    Slot,
    hyperparameter,
)


@keras.saving.register_keras_serializable(PACKAGE)
class Yogi(AdaptiveOptimizer):
    """Yogi: Adam whose second moment moves by no more than the squared gradient.

    With the gradient g at step t, the momentum m, the velocity v and the learning
    rate η:

        m ← β₁ m + (1 - β₁) g
        v ← v + (1 - β₂) sign(g² - v) g²
        w ← w - η / (1 - β₁ᵗ) · m / (√(v / (1 - β₂ᵗ)) + ε)

    Adam forgets large gradients at a fixed pace; Yogi's v falls only as fast as
    small gradients come in, and stands still where there are none.

    When to use: sparse or heavy-tailed gradients, where Adam's rates jump up after a
        while without large ones. Not where the scale of the gradients falls during
        training: v, and with it the rate, hardly follows. What matters:
        `learning_rate` (about ten times Adam's), `epsilon`, and
        `initial_accumulator_value`, which v keeps for long.

    Sparse gradients, `"deferred"`: after d steps with zero gradient v has stood still,
    m has decayed by β₁ᵈ, and the weights have moved by

        -m / (√v + ε √cₛ) · Σⱼ aₛ₊ⱼ₋₁ β₁ʲ,  aₜ = η √cₜ / (1 - β₁ᵗ),  cₜ = 1 - β₂ᵗ

    with s the first skipped step. Exact but for the factor of ε, which stays that of
    step s: the skipped step t is too long by a share of at most ε (√cₜ - √cₛ) / √v,
    which is nothing once β₂ᵗ is small.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.Yogi(0.01), "mse")

    References:

    - [Zaheer et al., 2018](https://papers.nips.cc/paper/8186)
    """

    learning_rate: LearningRate = hyperparameter(0.01)
    beta_1: float = hyperparameter(0.9, DECAY_RATE, "Decay rate of the momentum.")
    beta_2: float = hyperparameter(
        0.999, DECAY_RATE, "One minus the pace of the velocity."
    )
    epsilon: float = hyperparameter(
        1e-3,
        NON_NEGATIVE,
        """Keeps the denominator away from zero; beside the root of the corrected
        velocity.""",
    )
    initial_accumulator_value: float = hyperparameter(
        1e-6, NON_NEGATIVE, "The velocity to start from."
    )
    row_wise: bool = hyperparameter(False, doc="Keep one velocity a row, of mean(g²).")

    @property
    def slots(self):
        return {
            "momentum": Slot(),
            "velocity": Slot(self.initial_accumulator_value, self.row_wise),
        }

    def rule(self, gradient, state, hyper):
        m = averaged(state["momentum"], gradient, hyper.beta_1)
        v, square = state["velocity"], self.squared(gradient)
        v = v + (1 - hyper.beta_2) * ops.sign(square - v) * square
        rate, _ = self.drift(hyper)
        step = rate * _direction(m, v, hyper.step, hyper)
        return step, {"momentum": m, "velocity": v}

    def catch_up(self, state, skipped_steps, hyper):
        m, v = state["momentum"], state["velocity"]
        # When averages overwrite weights, the last skipped step is `hyper.step`.
        first = ops.maximum(hyper.step - skipped_steps, ops.ones_like(skipped_steps))
        return _direction(m, v, first, hyper), {
            "momentum": ops.power(hyper.beta_1, skipped_steps) * m,
            "velocity": v,
        }

    def drift(self, hyper):
        rate = unbiased(hyper.learning_rate, hyper.beta_1, hyper.step)
        return rate * _root(hyper.step, hyper), hyper.beta_1


def _direction(m, v, step, hyper):
    return m / (ops.sqrt(v) + hyper.epsilon * _root(step, hyper))


def _root(step, hyper):
    """√cₜ, where cₜ = 1 - β₂ᵗ corrects v."""
    return ops.sqrt(1 - ops.power(hyper.beta_2, step))
