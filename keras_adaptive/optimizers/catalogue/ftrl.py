"""FTRL-Proximal."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.contract import (
    NON_NEGATIVE,
    PACKAGE,
    Hyper,
    Interval,
    LearningRate,
    Slot,
    State,
    hyperparameter,
)

AT_ONCE = 2.0**60

NO_CLOSED_FORM = (
    "it needs weights that are a function of the accumulators alone, without "
    "l2_shrinkage_regularization_strength, weight_decay and use_ema."
)


@keras.saving.register_keras_serializable(PACKAGE)
class Ftrl(AdaptiveOptimizer):
    """FTRL-Proximal: AdaGrad's rates, with weights that L1 makes exactly zero.

    With the gradient g, the accumulator n, the linear term z, the learning rate η and
    the power p, which is minus `learning_rate_power`:

        σ ← ((n + g²)ᵖ - nᵖ) / η
        n ← n + g²
        z ← z + g + 2 s w - σ w
        w ← (clip(z, -λ₁, λ₁) - z) / ((nᵖ + β) / η + 2 λ₂)

    The weights are a function of n and z alone. The first step therefore erases their
    initial values, even where the gradient is zero: start from zeros.

    When to use: linear models on many sparse features (click-through rates), when
        most weights should be exactly zero. Not for deep networks, whose initial
        weights it erases. What matters: `learning_rate`, `l1_regularization_strength`,
        then `beta`.

    Sparse gradients, `"deferred"`: a zero gradient changes neither n nor z. The weights
    of a row follow from its n and z at the rate of the last update; those of a row that
    was never touched are zero. This is exact under any schedule. With shrinkage, weight
    decay or a moving average there is no closed form, and the default is `"lazy"`: rows
    stand still until they are touched. Without shrinkage and schedule they do so in
    dense updates too, if they start from zeros.

    Raises:
        ValueError: As `AdaptiveOptimizer`; also if `sparse="deferred"` is asked for
            with shrinkage, weight decay or a moving average.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential(
    ...     [keras.Input((9,)), keras.layers.Dense(1, kernel_initializer="zeros")]
    ... )
    >>> optimizer = keras_adaptive.optimizers.Ftrl(0.1, l1_regularization_strength=0.5)
    >>> model.compile(optimizer, "binary_crossentropy")

    References:

    - [McMahan et al., 2013](https://research.google.com/pubs/archive/41159.pdf)
    """

    learning_rate: LearningRate = hyperparameter(
        doc="""η. A float, a schedule, or a callable without arguments that returns it.
        Values of 0.01 to 1 are often best.""",
        default=0.001,
    )
    learning_rate_power: float = hyperparameter(
        Interval(-1.0, 0.0), "Minus p. With 0 the rate is fixed.", default=-0.5
    )
    initial_accumulator_value: float = hyperparameter(
        NON_NEGATIVE, "The value of n at the start.", default=0.1
    )
    l1_regularization_strength: float = hyperparameter(
        NON_NEGATIVE, "λ₁, the strength of the L1 penalty.", default=0.0
    )
    l2_regularization_strength: float = hyperparameter(
        NON_NEGATIVE,
        "λ₂, a pull towards zero that weakens as gradients accumulate.",
        default=0.0,
    )
    l2_shrinkage_regularization_strength: float = hyperparameter(
        NON_NEGATIVE, "s. The gradient of s w² is added to g.", default=0.0
    )
    beta: float = hyperparameter(
        NON_NEGATIVE, "β, as in the paper, added to nᵖ.", default=0.0
    )

    global_slots = {"last_rate": Slot()}

    @property
    def slots(self) -> dict[str, Slot]:
        return {"accumulator": Slot(self.initial_accumulator_value), "linear": Slot()}

    def why_not_deferred(self) -> str | None:
        shrinkage = self.l2_shrinkage_regularization_strength
        if shrinkage or self.weight_decay or self.use_ema:
            return NO_CLOSED_FORM
        return super().why_not_deferred()

    def reduce_stats(self, sums: State, old: State, hyper: Hyper) -> State:
        rate = hyper.learning_rate
        return {"last_rate": ops.where(rate > 0, rate, old["last_rate"])}

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        w, power = hyper.parameter, -hyper.learning_rate_power
        before, moves = state["accumulator"], hyper.learning_rate > 0
        rate = _divisor(hyper.learning_rate)
        n = before + ops.square(gradient)
        sigma = (ops.power(n, power) - ops.power(before, power)) / rate
        shrinkage = 2 * hyper.l2_shrinkage_regularization_strength * w
        z = state["linear"] + gradient + shrinkage - sigma * w
        step = ops.where(moves, w - _weights(n, z, rate, hyper), ops.zeros_like(w))
        # The gradients of steps at rate 0 would otherwise shrink w in the next one.
        return step, {
            "accumulator": ops.where(moves, n, before),
            "linear": ops.where(moves, z, state["linear"]),
        }

    def catch_up(
        self, state: State, skipped_steps: Any, hyper: Hyper
    ) -> tuple[Any, State]:
        rate, w = hyper.global_state_before["last_rate"], hyper.parameter
        target = _weights(state["accumulator"], state["linear"], _divisor(rate), hyper)
        return ops.where(rate > 0, w - target, ops.zeros_like(w)), state

    def drift(self, hyper: Hyper) -> tuple[Any, Any]:
        # rate * ratio**j is 1 at the first skipped step and negligible afterwards.
        return AT_ONCE, 1 / AT_ONCE


def _divisor(rate: Any) -> Any:
    """Returns a rate that may be divided by; at rate 0 the result is not used."""
    return ops.where(rate > 0, rate, ops.ones_like(rate))


def _weights(accumulator: Any, linear: Any, learning_rate: Any, hyper: Hyper) -> Any:
    """Returns the weights that follow from the two slots."""
    limit = hyper.l1_regularization_strength
    beyond = linear - ops.clip(linear, -limit, limit)
    strength = (
        ops.power(accumulator, -hyper.learning_rate_power) + hyper.beta
    ) / learning_rate + 2 * hyper.l2_regularization_strength
    # Both may be zero where nothing was accumulated yet.
    return -beyond / ops.where(beyond == 0, ops.ones_like(beyond), strength)
