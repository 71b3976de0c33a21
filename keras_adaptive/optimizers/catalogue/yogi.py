"""Yogi."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.moments import averaged, unbiased
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
class Yogi(AdaptiveOptimizer):
    """Yogi: Adam whose second moment changes by at most the squared gradient.

    With the gradient g at step t, the momentum m, the velocity v and the learning
    rate η:

        m ← β₁ m + (1 - β₁) g
        v ← v + (1 - β₂) sign(g² - v) g²
        w ← w - η / (1 - β₁ᵗ) · m / (√(v / (1 - β₂ᵗ)) + ε)

    Adam forgets large gradients at a fixed pace. Yogi's v decreases only by the small
    squared gradients that arrive, and stands still without gradients.

    When to use: for sparse or heavy-tailed gradients, where Adam's rates jump up after
        a while without large gradients. Avoid it where the scale of the gradients falls
        during training, because v, and with it the rate, hardly follows. What matters:
        `learning_rate` (about ten times Adam's), `epsilon`, and
        `initial_accumulator_value`, which v keeps for a long time.

    Sparse gradients, `"deferred"`: after d steps with zero gradient, v has stood still,
    m has decayed by β₁ᵈ, and the weights have moved by

        -m / √v · Σⱼ aₜ₊ⱼ β₁ʲ,  aₜ = η √cₜ / (1 - β₁ᵗ),  cₜ = 1 - β₂ᵗ

    if ε is small. At step t it counts √cₜ times, and takes part with the mean of this
    number. Where ε and √v are alike, up to 2e-3 of the way is lost in the first steps,
    when cₜ grows fast, and 2e-5 after a hundred.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.Yogi(0.01), "mse")

    References:

    - [Zaheer et al., 2018](https://papers.nips.cc/paper/8186)
    """

    learning_rate: LearningRate = hyperparameter(default=0.01)
    beta_1: float = hyperparameter(
        DECAY_RATE, "β₁, decay rate of the momentum.", default=0.9
    )
    beta_2: float = hyperparameter(
        DECAY_RATE, "β₂, one minus the pace of v.", default=0.999
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE, "ε, added to the denominator.", default=1e-3
    )
    initial_accumulator_value: float = hyperparameter(
        NON_NEGATIVE, "The initial value of the velocity.", default=1e-6
    )
    row_wise: bool = hyperparameter(
        doc="Keeps one velocity a row, of mean(g²).", default=False
    )

    @property
    def slots(self) -> dict[str, Slot]:
        velocity = Slot(self.initial_accumulator_value, self.row_wise)
        return {"momentum": Slot(), "velocity": velocity}

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        m = averaged(state["momentum"], gradient, hyper.beta_1)
        v = _moved(state["velocity"], self.squared(gradient), hyper)
        (rate, _), floor = self.drift(hyper), hyper.epsilon * _root(hyper.step, hyper)
        step = rate * m / (ops.sqrt(v) + floor)
        return step, {"momentum": m, "velocity": v}

    def catch_up(
        self, state: State, skipped_steps: Any, hyper: Hyper
    ) -> tuple[Quotient, State]:
        m, v = state["momentum"], state["velocity"]
        momentum = ops.power(hyper.beta_1, skipped_steps) * m
        new = {"momentum": momentum, "velocity": v}
        return Quotient(m, ops.sqrt(v), hyper.epsilon), new

    def drift(self, hyper: Hyper) -> tuple[Any, Any]:
        rate = unbiased(hyper.learning_rate, hyper.beta_1, hyper.step)
        return rate * _root(hyper.step, hyper), hyper.beta_1

    def floor_growth(self, hyper: Hyper) -> tuple[Any, Any]:
        return _root(hyper.step, hyper), 1.0


def _moved(v: Any, square: Any, hyper: Hyper) -> Any:
    """Returns the velocity after one more squared gradient."""
    return v + (1 - hyper.beta_2) * ops.sign(square - v) * square


def _root(step: Any, hyper: Hyper) -> Any:
    """Returns √cₜ, where cₜ = 1 - β₂ᵗ is the bias correction of v."""
    return ops.sqrt(1 - ops.power(hyper.beta_2, step))
