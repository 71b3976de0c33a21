"""Yogi."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.base import PACKAGE, AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.moments import averaged, unbiased
from keras_adaptive.optimizers.contract.constraints import DECAY_RATE, NON_NEGATIVE
from keras_adaptive.optimizers.contract.slot import Slot


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

    Args:
        learning_rate: A float, a schedule, or a callable. Defaults to `0.01`.
        beta_1: Decay rate of the momentum, in `[0, 1)`. Defaults to `0.9`.
        beta_2: One minus the pace of the velocity, in `[0, 1)`. Defaults to
            `0.999`.
        epsilon: Keeps the denominator away from zero; beside the root of the
            corrected velocity. Defaults to `1e-3`.
        initial_accumulator_value: The velocity to start from, at least 0. Defaults
            to `1e-6`.
        row_wise: Keep one velocity a row, of mean(g²).
        **options: Keras's base options and `sparse`; see `AdaptiveOptimizer`.

    Sparse gradients, `"deferred"`: after d steps with zero gradient v has stood still,
    m has decayed by β₁ᵈ, and the weights have moved by

        -m / (√v + ε √cₛ) · Σⱼ aₛ₊ⱼ₋₁ β₁ʲ,  aₜ = η √cₜ / (1 - β₁ᵗ),  cₜ = 1 - β₂ᵗ

    with s the first missed step. Exact but for the factor of ε, which stays that of
    step s: the missed step t is too long by a share of at most ε (√cₜ - √cₛ) / √v,
    which is nothing once β₂ᵗ is small.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.Yogi(0.01), "mse")

    References:

    - [Zaheer et al., 2018](https://papers.nips.cc/paper/8186)
    """

    bounds = {
        "beta_1": DECAY_RATE,
        "beta_2": DECAY_RATE,
        "epsilon": NON_NEGATIVE,
        "initial_accumulator_value": NON_NEGATIVE,
    }

    def __init__(
        self,
        learning_rate=0.01,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-3,
        initial_accumulator_value: float = 1e-6,
        row_wise: bool = False,
        **options,
    ):
        super().__init__(learning_rate, **options)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.initial_accumulator_value = initial_accumulator_value
        self.row_wise = row_wise

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

    def idle(self, state, missed, hyper):
        m, v = state["momentum"], state["velocity"]
        # When averages overwrite weights, the last missed step is `hyper.step`.
        first = ops.maximum(hyper.step - missed, ops.ones_like(missed))
        return _direction(m, v, first, hyper), {
            "momentum": ops.power(hyper.beta_1, missed) * m,
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
