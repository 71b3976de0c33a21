"""Nadam."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.catalogue.adam import AdamRule
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    PACKAGE,
    Hyper,
    LearningRate,
    Slot,
    State,
    hyperparameter,
)


@keras.saving.register_keras_serializable(PACKAGE)
class Nadam(AdamRule):
    """Nadam: Adam with a warmed-up Nesterov momentum.

    With the gradient g at step t, Adam's momentum m and velocity v, the learning rate
    η, and the product Uₜ of the momenta μ₁, ..., μₜ:

        μₜ = β₁ (1 - 0.96ᵗ / 2)
        m ← β₁ m + (1 - β₁) g
        v ← β₂ v + (1 - β₂) g²
        d = μₜ₊₁ / (1 - Uₜ₊₁) m + (1 - μₜ) / (1 - Uₜ) g
        w ← w - η d / (√(v / (1 - β₂ᵗ)) + ε)

    This is Keras's version: its momenta grow from about β₁ / 2 to β₁ in a hundred
    steps, those of the paper in 25,000.

    When to use: for the same tasks as Adam, if they gain from a somewhat faster start.
        Equally tuned, the two often perform alike. Avoid it where memory is short (two
        numbers per parameter). What matters: `learning_rate` and its schedule, then
        `epsilon`.

    Sparse gradients, `"deferred"`: after d steps with zero gradient the moments have
    decayed as in `Adam`, and the weights have moved by

        -m / √v · Σⱼ aₜ₊ⱼ (β₁ / √β₂)ʲ,  aₜ = η √cₜ μₜ₊₁ / (1 - Uₜ₊₁),  cₜ = 1 - β₂ᵗ

    if ε is small. At the j-th skipped step t + j, it counts √cₜ₊ⱼ β₂^(-j/2) times. It
    takes part with the mean of this growth. Where ε and √v are alike, up to 2e-3 of the
    way is lost in the first steps, when cₜ grows fast, and 2e-5 after a hundred.

    Raises:
        ValueError: As for `Adam`.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.Nadam(0.002), "mse")

    References:

    - [Dozat, 2016](https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ)
    """

    learning_rate: LearningRate = hyperparameter(default=0.001)
    beta_1: float = hyperparameter(
        DECAY_RATE, "β₁, decay rate of the momentum.", default=0.9
    )
    beta_2: float = hyperparameter(
        DECAY_RATE, "β₂, decay rate of the velocity.", default=0.999
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE, "ε, added to the root of the corrected velocity.", default=1e-7
    )
    row_wise: bool = hyperparameter(
        doc="Keeps one velocity a row, of mean(g²).", default=False
    )

    global_slots = {"u_product": Slot(1.0)}

    def reduce_stats(self, sums: State, old: State, hyper: Hyper) -> State:
        return {"u_product": old["u_product"] * _momentum(hyper, hyper.step)}

    def _rate(self, hyper: Hyper) -> Any:
        u = _momentum(hyper, hyper.step + 1)
        share = u / (1 - hyper.global_state["u_product"] * u)
        return hyper.learning_rate * _correction(hyper, hyper.step) * share

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        new = self._moments(gradient, state, hyper)
        correction = _correction(hyper, hyper.step)
        u = _momentum(hyper, hyper.step)
        share = (1 - u) / (1 - hyper.global_state["u_product"])
        step = hyper.learning_rate * correction * share * gradient
        step = step + self._rate(hyper) * new["momentum"]
        return step / (ops.sqrt(new["velocity"]) + correction * hyper.epsilon), new

    def floor_growth(self, hyper: Hyper) -> tuple[Any, Any]:
        return _correction(hyper, hyper.step), 1 / ops.sqrt(hyper.beta_2)


def _momentum(hyper: Hyper, step: Any) -> Any:
    """Returns μ of a step."""
    return hyper.beta_1 * (1 - ops.power(hyper.number(0.96), step) / 2)


def _correction(hyper: Hyper, step: Any) -> Any:
    """Returns √(1 - β₂ᵗ) of a step t."""
    return ops.sqrt(1 - ops.power(hyper.beta_2, step))
