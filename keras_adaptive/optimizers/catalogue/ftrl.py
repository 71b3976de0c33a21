"""FTRL-Proximal."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.contract import (
    NON_NEGATIVE,
    PACKAGE,
    POSITIVE,
    Interval,
    LearningRate,
    Slot,
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

    The weights are a function of n and z alone, so what they started from is gone
    after the first step, also where the gradient is zero: start from zeros.

    When to use: linear models on many sparse features (click-through rates), when
        most weights should be exactly zero. Not for deep networks: it forgets how they
        were initialized. What matters: `learning_rate`, `l1_regularization_strength`,
        then `beta`.

    Sparse gradients, `"deferred"`: a zero gradient changes neither n nor z; the
    weights are what they are at the rate of the last update, those of rows that were
    never touched zero. Exact, under any schedule. With shrinkage, weight decay or a
    moving average there is no closed form and the default is `"lazy"`: rows stand
    still until they are touched, which without shrinkage and schedule is what they do
    in dense updates too, if they start from zeros.

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
        0.001, POSITIVE, "always.; this algorithm tends to want more (0.01 to 1)."
    )
    learning_rate_power: float = hyperparameter(
        -0.5, Interval(-1.0, 0.0), "In `[-1, 0]`; 0 for a fixed rate."
    )
    initial_accumulator_value: float = hyperparameter(
        0.1, NON_NEGATIVE, "The n to start from."
    )
    l1_regularization_strength: float = hyperparameter(0.0, NON_NEGATIVE, "λ₁.")
    l2_regularization_strength: float = hyperparameter(
        0.0,
        NON_NEGATIVE,
        """λ₂: a pull towards zero that matters less the more gradients were
        seen.""",
    )
    l2_shrinkage_regularization_strength: float = hyperparameter(
        0.0, NON_NEGATIVE, "s: the gradient of s w² is added to g."
    )
    beta: float = hyperparameter(0.0, NON_NEGATIVE, "The paper's β.")

    global_slots = {"last_rate": Slot(1.0)}

    def why_not_deferred(self):
        if self.l2_shrinkage_regularization_strength or self.weight_decay:
            return NO_CLOSED_FORM
        return NO_CLOSED_FORM if self.use_ema else super().why_not_deferred()

    @property
    def slots(self):
        return {"accumulator": Slot(self.initial_accumulator_value), "linear": Slot()}

    def reduce_stats(self, sums, shared, hyper):
        return {"last_rate": hyper.learning_rate}

    def _weights(self, accumulator, linear, learning_rate, hyper):
        limit = hyper.l1_regularization_strength
        beyond = linear - ops.clip(linear, -limit, limit)
        strength = (
            ops.power(accumulator, -hyper.learning_rate_power) + hyper.beta
        ) / learning_rate + 2 * hyper.l2_regularization_strength
        # Where nothing was accumulated yet both may be zero.
        return -beyond / ops.where(beyond == 0, ops.ones_like(beyond), strength)

    def rule(self, gradient, state, hyper):
        w, power = hyper.parameter, -hyper.learning_rate_power
        before, rate = state["accumulator"], hyper.learning_rate
        n = before + ops.square(gradient)
        sigma = (ops.power(n, power) - ops.power(before, power)) / rate
        shrinkage = 2 * hyper.l2_shrinkage_regularization_strength * w
        z = state["linear"] + gradient + shrinkage - sigma * w
        step = w - self._weights(n, z, rate, hyper)
        return step, {"accumulator": n, "linear": z}

    def catch_up(self, state, skipped_steps, hyper):
        rate = hyper.global_state_before["last_rate"]
        w = self._weights(state["accumulator"], state["linear"], rate, hyper)
        return hyper.parameter - w, state

    def drift(self, hyper):
        # rate * ratio**j is 1 at the first skipped step, then too small to be seen.
        return AT_ONCE, 1 / AT_ONCE
