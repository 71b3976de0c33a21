"""D-Adaptation for Adam, SGD and AdaGrad."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.moments import averaged, unbiased
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    PACKAGE,
    POSITIVE,
    Interval,
    LearningRate,
    Slot,
    hyperparameter,
)


def quotient(numerator, denominator):
    """A quotient whose denominator may be zero; then it is zero."""
    positive = denominator > 0
    safe = ops.where(positive, denominator, ops.ones_like(denominator))
    result = numerator / safe
    return ops.where(positive, result, ops.zeros_like(result))


class _DAdaptation(AdaptiveOptimizer):
    """What the D-Adaptation methods have in common: the estimate d, which grows."""

    dense_only = (
        "its estimate of the distance needs sums over whole variables; for large "
        "tables use Adam or Adagrad with sparse='deferred'."
    )

    @property
    def global_slots(self):
        return {"d": Slot(self.d0), "numerator": Slot()}

    def _rate(self, hyper):
        return hyper.global_state_before["d"] * hyper.learning_rate

    def _grown(self, d, estimate, hyper):
        if self.growth_rate is not None:
            estimate = ops.minimum(estimate, hyper.growth_rate * d)
        return ops.maximum(d, estimate)


class _Averaging(_DAdaptation):
    """Momentum as an average of the iterate x with the dual point z.

    x ← μ x + (1 - μ) z. What is kept is x - z, to which a step of z is added; so the
    weights may decay, which an x computed anew from x₀ would forget.
    """

    @property
    def slots(self):
        slots = {"dual_sum": Slot()}
        return {**slots, "lag": Slot()} if self.momentum > 0 else slots

    def _dual_sum(self, gradient, state, hyper):
        return state["dual_sum"] + self._rate(hyper) * gradient

    def _with_momentum(self, step, state, new, hyper):
        if self.momentum == 0:
            return step, new
        lag = state["lag"] + step
        return (1 - hyper.momentum) * lag, {**new, "lag": hyper.momentum * lag}


class AdaptedAdam(_DAdaptation):
    """Adam whose learning rate is multiplied by d."""

    def _rate(self, hyper):
        rate = super()._rate(hyper)
        if not self.use_bias_correction:
            return rate
        root = ops.sqrt(1 - ops.power(hyper.beta_2, hyper.step))
        return unbiased(rate * root, hyper.beta_1, hyper.step)

    def decayed(self, parameter, hyper):
        return parameter - parameter * hyper.weight_decay * self._rate(hyper)


@keras.saving.register_keras_serializable(PACKAGE)
class DAdaptAdam(AdaptedAdam):
    """D-Adapted Adam: Adam whose learning rate is estimated.

    With the gradient g, the learning rate η, a = d η (times Adam's bias correction
    with `use_bias_correction`) and sums over all variables:

        n ← √β₂ n + (1 - √β₂) Σ a g s / (√v + ε)
        m ← β₁ m + (1 - β₁) a g
        v ← β₂ v + (1 - β₂) g²
        s ← √β₂ s + (1 - √β₂) a g
        w ← w - m / (√v + ε)
        d ← max(d, min(n / ((1 - √β₂) Σ |s|), γ d))

    d only grows: it estimates from below how far the solution is. η is 1 or near it;
    a schedule for it (warmup, cosine) goes as with Adam.

    When to use: Adam with no learning rate to search. Not as the first choice, which
        is `Prodigy`, its faster successor. What matters: the schedule of
        `learning_rate`, `weight_decay`, and `growth_rate` if the start is unstable.

    Sparse gradients: always `"dense"`, since the sums take every row.

    Raises:
        ValueError: As `AdaptiveOptimizer`; also if `sparse` is not `"dense"`.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.DAdaptAdam(), "mse")

    References:

    - [Defazio & Mishchenko, 2023](https://arxiv.org/abs/2301.07733)
    """

    learning_rate: LearningRate = hyperparameter(1.0, doc="The factor η")
    beta_1: float = hyperparameter(0.9, DECAY_RATE, "Decay rate of the momentum.")
    beta_2: float = hyperparameter(0.999, DECAY_RATE, "Decay rate of the velocity.")
    epsilon: float = hyperparameter(
        1e-8, NON_NEGATIVE, "Keeps the denominator away from zero."
    )
    d0: float = hyperparameter(
        1e-6, POSITIVE, "The d to start from; smaller than the rate sought."
    )
    growth_rate: float | None = hyperparameter(
        None,
        Interval(1.0, optional=True),
        "γ; `None`, the default, for no limit. `1.02` is a slow warmup.",
    )
    use_bias_correction: bool = hyperparameter(
        False, doc="Correct the moments for starting at zero."
    )

    slots = {"momentum": Slot(), "velocity": Slot(), "dual_sum": Slot()}

    def _dual_sum(self, gradient, state, hyper):
        step = self._rate(hyper) * gradient
        return averaged(state["dual_sum"], step, ops.sqrt(hyper.beta_2))

    def local_stats(self, gradient, state, hyper):
        dual = quotient(state["dual_sum"], ops.sqrt(state["velocity"]) + hyper.epsilon)
        return {
            "numerator": self._rate(hyper) * ops.sum(gradient * dual),
            "denominator": ops.sum(ops.abs(self._dual_sum(gradient, state, hyper))),
        }

    def reduce_stats(self, sums, shared, hyper):
        decay = ops.sqrt(hyper.beta_2)
        numerator = averaged(shared["numerator"], sums["numerator"], decay)
        estimate = quotient(numerator, (1 - decay) * sums["denominator"])
        return {
            "d": self._grown(shared["d"], estimate, hyper),
            "numerator": numerator,
        }

    def rule(self, gradient, state, hyper):
        step = self._rate(hyper) * gradient
        m = averaged(state["momentum"], step, hyper.beta_1)
        v = averaged(state["velocity"], ops.square(gradient), hyper.beta_2)
        s = self._dual_sum(gradient, state, hyper)
        new = {"momentum": m, "velocity": v, "dual_sum": s}
        return m / (ops.sqrt(v) + hyper.epsilon), new


@keras.saving.register_keras_serializable(PACKAGE)
class DAdaptSGD(_Averaging):
    """D-Adapted SGD: SGD whose learning rate is estimated.

    With the gradient g of all variables together, g₀ the first that is not zero, the
    learning rate η and the momentum μ:

        n ← n + d η gᵀ s
        s ← s + d η g
        z ← z - d η g / ‖g₀‖
        x ← μ x + (1 - μ) z
        d ← max(d, min(2 n / (‖g₀‖ ‖s‖), γ d))

    d only grows: it estimates from below how far the solution is. η is 1 or near it.

    When to use: networks that are trained by SGD with momentum (image classifiers),
        with no learning rate to search. Not where SGD itself does badly, as on
        transformers. What matters: the schedule of `learning_rate`, `momentum`.

    Sparse gradients: always `"dense"`, since the sums take every row.

    Raises:
        ValueError: As `AdaptiveOptimizer`; also if `sparse` is not `"dense"`.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.DAdaptSGD(momentum=0.9), "mse")

    References:

    - [Defazio & Mishchenko, 2023](https://arxiv.org/abs/2301.07733)
    """

    learning_rate: LearningRate = hyperparameter(1.0, doc="The factor η")
    momentum: float = hyperparameter(0.0, DECAY_RATE, "μ.")
    d0: float = hyperparameter(
        1e-6, POSITIVE, "The d to start from; smaller than the distance sought."
    )
    growth_rate: float | None = hyperparameter(
        None, Interval(1.0, optional=True), "γ; `None`, the default, for no limit."
    )

    @property
    def global_slots(self):
        return {**super().global_slots, "first_norm": Slot()}

    def local_stats(self, gradient, state, hyper):
        return {
            "numerator": self._rate(hyper) * ops.sum(gradient * state["dual_sum"]),
            "dual": ops.sum(ops.square(self._dual_sum(gradient, state, hyper))),
            "gradient": ops.sum(ops.square(gradient)),
        }

    def reduce_stats(self, sums, shared, hyper):
        first = shared["first_norm"]
        first = ops.where(first > 0, first, ops.sqrt(sums["gradient"]))
        numerator = shared["numerator"] + sums["numerator"]
        estimate = quotient(2 * numerator, first * ops.sqrt(sums["dual"]))
        return {
            "d": self._grown(shared["d"], estimate, hyper),
            "numerator": numerator,
            "first_norm": first,
        }

    def rule(self, gradient, state, hyper):
        new = {"dual_sum": self._dual_sum(gradient, state, hyper)}
        step = self._rate(hyper) * quotient(gradient, hyper.global_state["first_norm"])
        return self._with_momentum(step, state, new, hyper)


@keras.saving.register_keras_serializable(PACKAGE)
class DAdaptAdaGrad(_Averaging):
    """D-Adapted AdaGrad: AdaGrad by dual averaging whose learning rate is estimated.

    With the gradient g, the learning rate η, the momentum μ, A = √a + ε, the initial
    weights x₀ and sums over all variables:

        n ← n + Σ d η g s / A
        a ← a + g²
        s ← s + d η g
        z ← x₀ - s / A
        x ← μ x + (1 - μ) z
        d ← max(d, min(n / Σ |s|, γ d))

    d only grows: it estimates from below how far the solution is. η is 1 or near it.
    The accumulator a starts at 1e-6.

    When to use: convex problems with features of very different frequency, with no
        learning rate to search. Not for deep networks, nor for large tables, which it
        updates whole: `Adagrad` does not. What matters: `d0`, if it starts too slowly.

    Sparse gradients: always `"dense"`, since the sums take every row.

    Raises:
        ValueError: As `AdaptiveOptimizer`; also if `sparse` is not `"dense"`.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.DAdaptAdaGrad(), "mse")

    References:

    - [Defazio & Mishchenko, 2023](https://arxiv.org/abs/2301.07733)
    """

    learning_rate: LearningRate = hyperparameter(1.0, doc="The factor η")
    momentum: float = hyperparameter(0.0, DECAY_RATE, "μ.")
    epsilon: float = hyperparameter(
        1e-6, NON_NEGATIVE, "Keeps the denominator away from zero; outside the root."
    )
    d0: float = hyperparameter(
        1e-6, POSITIVE, "The d to start from; smaller than the rate sought."
    )
    growth_rate: float | None = hyperparameter(
        None, Interval(1.0, optional=True), "γ; `None`, the default, for no limit."
    )

    @property
    def slots(self):
        return {**super().slots, "accumulator": Slot(1e-6)}

    def _displacement(self, state, hyper):
        return state["dual_sum"] / (ops.sqrt(state["accumulator"]) + hyper.epsilon)

    def local_stats(self, gradient, state, hyper):
        displacement = self._displacement(state, hyper)
        return {
            "numerator": self._rate(hyper) * ops.sum(gradient * displacement),
            "denominator": ops.sum(ops.abs(self._dual_sum(gradient, state, hyper))),
        }

    def reduce_stats(self, sums, shared, hyper):
        numerator = shared["numerator"] + sums["numerator"]
        estimate = quotient(numerator, sums["denominator"])
        return {
            "d": self._grown(shared["d"], estimate, hyper),
            "numerator": numerator,
        }

    def rule(self, gradient, state, hyper):
        new = {
            "dual_sum": self._dual_sum(gradient, state, hyper),
            "accumulator": state["accumulator"] + ops.square(gradient),
        }
        before, after = (self._displacement(s, hyper) for s in (state, new))
        return self._with_momentum(after - before, state, new, hyper)
