"""D-Adaptation for Adam, SGD and AdaGrad."""

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
    POSITIVE,
    Hyper,
    Interval,
    LearningRate,
    Slot,
    State,
    hyperparameter,
)


def quotient(numerator: Any, denominator: Any) -> Any:
    """Returns a quotient, or zero where the denominator is zero."""
    positive = denominator > 0
    safe = ops.where(positive, denominator, ops.ones_like(denominator))
    result = numerator / safe
    return ops.where(positive, result, ops.zeros_like(result))


class _DAdaptation(AdaptiveOptimizer):
    """The common part of the D-Adaptation methods: the estimate d, which grows.

    Subclasses declare the hyper-parameters `d0` and `growth_rate`.
    """

    dense_only = (
        "its estimate of the distance needs sums over whole variables; for large "
        "tables use Adam or Adagrad with sparse='deferred'."
    )

    @property
    def global_slots(self) -> dict[str, Slot]:
        return {"d": Slot(self.d0), "numerator": Slot()}

    def _rate(self, hyper: Hyper) -> Any:
        return hyper.global_state_before["d"] * hyper.learning_rate

    def _grown(self, d: Any, estimate: Any, hyper: Hyper) -> Any:
        if self.growth_rate is not None:
            estimate = ops.minimum(estimate, hyper.growth_rate * d)
        return ops.maximum(d, estimate)


def state_if_it_counts(new: State, old: State, hyper: Hyper) -> State:
    """Returns the new state, or at rate 0 the old one.

    Gradients are multiplied by their rate before they are kept, so one with rate 0
    counts for nothing. If other state moved on without it, old momentum divided by a
    shrinking velocity would carry the weights away.
    """
    counts = hyper.learning_rate > 0
    return {name: ops.where(counts, new[name], old[name]) for name in new}


def if_it_counts(step: Any, new: State, old: State, hyper: Hyper) -> tuple[Any, State]:
    """Returns a step and the new state, or at rate 0 no step and the old state."""
    step = ops.where(hyper.learning_rate > 0, step, ops.zeros_like(step))
    return step, state_if_it_counts(new, old, hyper)


class _Averaging(_DAdaptation):
    """Momentum as an average of the iterate x with the dual point z.

    The average is x ← μ x + (1 - μ) z. The slot `lag` keeps x - z, to which each step
    of z is added. Weight decay thus acts on x itself; an x computed anew from x₀ would
    forget it. Subclasses declare the hyper-parameter `momentum`.
    """

    @property
    def slots(self) -> dict[str, Slot]:
        slots = {"dual_sum": Slot()}
        return {**slots, "lag": Slot()} if self.momentum > 0 else slots

    def _dual_sum(self, gradient: Any, state: State, hyper: Hyper) -> Any:
        return state["dual_sum"] + self._rate(hyper) * gradient

    def _averaged(
        self, step: Any, state: State, new: State, hyper: Hyper
    ) -> tuple[Any, State]:
        if self.momentum > 0:
            lag = state["lag"] + step
            step = (1 - hyper.momentum) * lag
            new = {**new, "lag": hyper.momentum * lag}
        return if_it_counts(step, new, state, hyper)


class AdaptedAdamRule(_DAdaptation):
    """Adam with a learning rate that is multiplied by d."""

    def _rate(self, hyper: Hyper) -> Any:
        rate = super()._rate(hyper)
        if not self.use_bias_correction:
            return rate
        root = ops.sqrt(1 - ops.power(hyper.beta_2, hyper.step))
        return unbiased(rate * root, hyper.beta_1, hyper.step)

    def decayed(self, parameter: Any, hyper: Hyper) -> Any:
        return parameter - parameter * hyper.weight_decay * self._rate(hyper)


@keras.saving.register_keras_serializable(PACKAGE)
class DAdaptAdam(AdaptedAdamRule):
    """D-Adapted Adam: Adam that estimates its learning rate.

    With the gradient g, the learning rate η, a = d η (times Adam's bias correction
    with `use_bias_correction`) and sums over all variables:

        n ← √β₂ n + (1 - √β₂) Σ a g s / (√v + ε)
        m ← β₁ m + (1 - β₁) a g
        v ← β₂ v + (1 - β₂) g²
        s ← √β₂ s + (1 - √β₂) a g
        w ← w - m / (√v + ε)
        d ← max(d, min(n / ((1 - √β₂) Σ |s|), γ d))

    The estimate d never shrinks, and nothing keeps it below the distance to the
    solution: for weights 0.1 away from the least of w² it grows to 0.29. η is 1 or near
    it, and its schedule (warmup, cosine) is that of Adam; a step with η = 0 changes
    nothing. A step decays the weights by a · `weight_decay`.

    When to use: Adam without a search for the learning rate, if `Prodigy`, its faster
        successor, does not fit. Not without a look at the loss: its d can be far too
        large and stays so. On all workloads of `docs/learning_rate_free.md` it ends
        below tuned Adam, by 2 to 8 points. What matters: the schedule of
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

    learning_rate: LearningRate = hyperparameter(
        doc="η, a factor of the estimated rate: a float, a schedule, or a callable.",
        default=1.0,
    )
    beta_1: float = hyperparameter(
        DECAY_RATE, "β₁, the momentum's decay rate.", default=0.9
    )
    beta_2: float = hyperparameter(
        DECAY_RATE, "β₂, the velocity's decay rate.", default=0.999
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE, "ε, the smallest denominator.", default=1e-8
    )
    d0: float = hyperparameter(
        POSITIVE,
        "The value of d at the start, smaller than the rate sought.",
        default=1e-6,
    )
    growth_rate: float | None = hyperparameter(
        Interval(1.0, optional=True),
        """γ, the largest factor by which d grows in a step. `None` sets no limit, and
        1.02 is a slow warmup.""",
        default=None,
    )
    use_bias_correction: bool = hyperparameter(
        doc="Corrects the moments for their start at zero.", default=False
    )

    slots = {"momentum": Slot(), "velocity": Slot(), "dual_sum": Slot()}

    def _dual_sum(self, gradient: Any, state: State, hyper: Hyper) -> Any:
        step = self._rate(hyper) * gradient
        return averaged(state["dual_sum"], step, ops.sqrt(hyper.beta_2))

    def local_stats(self, gradient: Any, state: State, hyper: Hyper) -> State:
        dual = quotient(state["dual_sum"], ops.sqrt(state["velocity"]) + hyper.epsilon)
        return {
            "numerator": self._rate(hyper) * ops.sum(gradient * dual),
            "denominator": ops.sum(ops.abs(self._dual_sum(gradient, state, hyper))),
        }

    def reduce_stats(self, sums: State, old: State, hyper: Hyper) -> State:
        decay = ops.sqrt(hyper.beta_2)
        numerator = averaged(old["numerator"], sums["numerator"], decay)
        estimate = quotient(numerator, (1 - decay) * sums["denominator"])
        d = self._grown(old["d"], estimate, hyper)
        new = {"d": d, "numerator": numerator}
        return state_if_it_counts(new, old, hyper)

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        step = self._rate(hyper) * gradient
        m = averaged(state["momentum"], step, hyper.beta_1)
        v = averaged(state["velocity"], ops.square(gradient), hyper.beta_2)
        s = self._dual_sum(gradient, state, hyper)
        new = {"momentum": m, "velocity": v, "dual_sum": s}
        step = m / (ops.sqrt(v) + hyper.epsilon)
        return if_it_counts(step, new, state, hyper)


@keras.saving.register_keras_serializable(PACKAGE)
class DAdaptSGD(_Averaging):
    """D-Adapted SGD: SGD that estimates its learning rate.

    With the gradient g of all variables together, the first gradient g₀ that is not
    zero, the learning rate η and the momentum μ:

        n ← n + d η gᵀ s
        s ← s + d η g
        z ← z - d η g / ‖g₀‖
        x ← μ x + (1 - μ) z
        d ← max(d, min(2 n / (‖g₀‖ ‖s‖), γ d))

    The estimate d never shrinks. On a convex loss without noise, and without momentum,
    it stays below the distance to the solution. η is 1 or near it; a step with η = 0
    changes nothing. With η = 1 a step decays the weights by the whole `weight_decay`,
    whatever d is.

    When to use: networks that are trained by SGD with momentum (image classifiers),
        without a search for the learning rate. Not where SGD itself does badly, as on
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

    learning_rate: LearningRate = hyperparameter(
        doc="η, a factor of the estimated rate: a float, a schedule, or a callable.",
        default=1.0,
    )
    momentum: float = hyperparameter(
        DECAY_RATE, "μ, the weight of the average.", default=0.0
    )
    d0: float = hyperparameter(
        POSITIVE,
        "The value of d at the start, smaller than the distance sought.",
        default=1e-6,
    )
    growth_rate: float | None = hyperparameter(
        Interval(1.0, optional=True),
        "γ, the largest factor by which d grows in a step. `None` sets no limit.",
        default=None,
    )

    @property
    def global_slots(self) -> dict[str, Slot]:
        return {**super().global_slots, "first_norm": Slot()}

    def local_stats(self, gradient: Any, state: State, hyper: Hyper) -> State:
        return {
            "numerator": self._rate(hyper) * ops.sum(gradient * state["dual_sum"]),
            "dual": ops.sum(ops.square(self._dual_sum(gradient, state, hyper))),
            "gradient": ops.sum(ops.square(gradient)),
        }

    def reduce_stats(self, sums: State, old: State, hyper: Hyper) -> State:
        first = old["first_norm"]
        first = ops.where(first > 0, first, ops.sqrt(sums["gradient"]))
        numerator = old["numerator"] + sums["numerator"]
        estimate = quotient(2 * numerator, first * ops.sqrt(sums["dual"]))
        d = self._grown(old["d"], estimate, hyper)
        new = {"d": d, "numerator": numerator, "first_norm": first}
        return state_if_it_counts(new, old, hyper)

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        new = {"dual_sum": self._dual_sum(gradient, state, hyper)}
        step = self._rate(hyper) * quotient(gradient, hyper.global_state["first_norm"])
        return self._averaged(step, state, new, hyper)


@keras.saving.register_keras_serializable(PACKAGE)
class DAdaptAdaGrad(_Averaging):
    """D-Adapted AdaGrad: dual-averaging AdaGrad that estimates its learning rate.

    With the gradient g, the learning rate η, the momentum μ, A = √a + ε, the initial
    weights x₀ and sums over all variables:

        a ← a + g²
        s ← s + d η g
        n ← n + Σ d² η² g² / A
        z ← x₀ - s / A
        x ← μ x + (1 - μ) z
        d ← max(d, min((Σ s² / A - n) / Σ |s|, γ d))

    The estimate d never shrinks. On a convex loss without noise, and without momentum,
    it stays below the largest distance of an entry to its solution. η is 1 or near it;
    a step with η = 0 changes nothing. With η = 1 a step decays the weights by the whole
    `weight_decay`, whatever d is. The accumulator a starts at 1e-6.

    When to use: convex problems with features of very different frequency, without a
        search for the learning rate. Not for deep networks, nor for large tables, which
        it updates whole: `Adagrad` does not. What matters: `d0`, if it starts too
        slowly.

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

    learning_rate: LearningRate = hyperparameter(
        doc="η, a factor of the estimated rate: a float, a schedule, or a callable.",
        default=1.0,
    )
    momentum: float = hyperparameter(
        DECAY_RATE, "μ, the weight of the average.", default=0.0
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE, "ε, the smallest denominator, outside the root.", default=1e-6
    )
    d0: float = hyperparameter(
        POSITIVE,
        "The value of d at the start, smaller than the rate sought.",
        default=1e-6,
    )
    growth_rate: float | None = hyperparameter(
        Interval(1.0, optional=True),
        "γ, the largest factor by which d grows in a step. `None` sets no limit.",
        default=None,
    )

    @property
    def slots(self) -> dict[str, Slot]:
        return {**super().slots, "accumulator": Slot(1e-6)}

    @property
    def global_slots(self) -> dict[str, Slot]:
        return {**super().global_slots, "denominator": Slot()}

    def _advanced(self, gradient: Any, state: State, hyper: Hyper) -> State:
        return {
            "dual_sum": self._dual_sum(gradient, state, hyper),
            "accumulator": state["accumulator"] + ops.square(gradient),
        }

    def _displacement(self, state: State, hyper: Hyper) -> Any:
        return state["dual_sum"] / (ops.sqrt(state["accumulator"]) + hyper.epsilon)

    def local_stats(self, gradient: Any, state: State, hyper: Hyper) -> State:
        # What the sums grow by: variables without a gradient keep their share.
        new = self._advanced(gradient, state, hyper)
        s, s_new = state["dual_sum"], new["dual_sum"]
        own = {**new, "dual_sum": self._rate(hyper) * gradient}
        before, after, share = (
            each["dual_sum"] * self._displacement(each, hyper)
            for each in (state, new, own)
        )
        return {
            "numerator": ops.sum(after - share - before),
            "denominator": ops.sum(ops.abs(s_new) - ops.abs(s)),
        }

    def reduce_stats(self, sums: State, old: State, hyper: Hyper) -> State:
        numerator = old["numerator"] + sums["numerator"]
        denominator = old["denominator"] + sums["denominator"]
        d = self._grown(old["d"], quotient(numerator, denominator), hyper)
        new = {"d": d, "numerator": numerator, "denominator": denominator}
        return state_if_it_counts(new, old, hyper)

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        new = self._advanced(gradient, state, hyper)
        before, after = (self._displacement(s, hyper) for s in (state, new))
        return self._averaged(after - before, state, new, hyper)
