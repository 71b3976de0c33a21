"""Prodigy."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.catalogue.dadapt import AdaptedAdamRule, quotient
from keras_adaptive.optimizers.catalogue.shared.moments import averaged
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    PACKAGE,
    PARAMETER,
    POSITIVE,
    Hyper,
    Interval,
    LearningRate,
    Slot,
    State,
    hyperparameter,
)


@keras.saving.register_keras_serializable(PACKAGE)
class Prodigy(AdaptedAdamRule):
    """Prodigy: Adam that estimates its learning rate, faster than D-Adaptation.

    With the gradient g, the weights w, their initial values w₀, the learning rate η and
    a = d η (times Adam's bias correction with `use_bias_correction`):

        m ← β₁ m + (1 - β₁) d g
        v ← β₂ v + (1 - β₂) d² g²
        s ← β₃ s + a g d / d₀
        n ← β₃ n + (a d / d₀) Σ g (w₀ - w)
        d' = min(max over all steps of c n / Σ |s|, γ d), at least d₀
        w ← w - a m / (√v + d' ε)
        d ← d'

    The sums Σ are over all variables. η is 1 or follows a schedule. c is the factor to
    tune, if any. w₀ holds the values of the weights when the optimizer is built.

    When to use: for fine-tuning, adapters and diffusion models without a search for the
        learning rate. Among the methods for that, try it first. Avoid it where memory
        is short (four numbers per parameter) or a good learning rate for AdamW is
        known. What matters: a decaying schedule of `learning_rate`, `weight_decay`,
        then `d_coef` (0.5 to 2), and `safeguard_warmup=True` with a warmup.

    Sparse gradients: always `"dense"`, because the sums need every row.

    Raises:
        ValueError: As for `AdaptiveOptimizer`, and if `sparse` is not `"dense"`.

    Example:

    >>> import keras, keras_adaptive
    >>> rate = keras.optimizers.schedules.CosineDecay(1.0, 1000)
    >>> optimizer = keras_adaptive.optimizers.Prodigy(rate, weight_decay=0.01)

    References:

    - [Mishchenko & Defazio, 2023](https://arxiv.org/abs/2306.06101)
    """

    learning_rate: LearningRate = hyperparameter(
        doc="η, the factor of the estimate: a float, a schedule, or a callable.",
        default=1.0,
    )
    beta_1: float = hyperparameter(
        DECAY_RATE, "β₁, decay rate of the momentum.", default=0.9
    )
    beta_2: float = hyperparameter(
        DECAY_RATE, "β₂, decay rate of the velocity.", default=0.999
    )
    beta_3: float | None = hyperparameter(
        dataclasses.replace(DECAY_RATE, optional=True),
        "β₃, decay rate of the sums s and n; `None` for √β₂.",
        default=None,
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE, "ε, added to the denominator.", default=1e-8
    )
    d0: float = hyperparameter(
        POSITIVE,
        "d₀, the initial estimate, below the best learning rate.",
        default=1e-6,
    )
    d_coef: float = hyperparameter(
        POSITIVE, "c, the factor of the estimate.", default=1.0
    )
    growth_rate: float | None = hyperparameter(
        Interval(1.0, optional=True),
        """γ, the largest growth of d in a step; `None` for no limit. The first step
        away from d₀ has no limit.""",
        default=None,
    )
    use_bias_correction: bool = hyperparameter(
        doc="Corrects the bias of the moments, which start at zero.", default=False
    )
    safeguard_warmup: bool = hyperparameter(
        doc="""Adds d g d / d₀ to s, without η, so that a warmup of the learning rate
        does not make d too large.""",
        default=False,
    )

    slots = {
        "momentum": Slot(),
        "velocity": Slot(),
        "dual_sum": Slot(),
        "start": Slot(PARAMETER),
    }

    @property
    def global_slots(self) -> dict[str, Slot]:
        return {**super().global_slots, "d_max": Slot(self.d0)}

    def _beta_3(self, hyper: Hyper) -> Any:
        return ops.sqrt(hyper.beta_2) if self.beta_3 is None else hyper.beta_3

    def _dual_sum(self, gradient: Any, state: State, hyper: Hyper) -> Any:
        d = hyper.global_state_before["d"]
        rate = d if self.safeguard_warmup else self._rate(hyper)
        return self._beta_3(hyper) * state["dual_sum"] + d / hyper.d0 * rate * gradient

    def local_stats(self, gradient: Any, state: State, hyper: Hyper) -> State:
        scale = hyper.global_state_before["d"] / hyper.d0 * self._rate(hyper)
        return {
            "numerator": scale * ops.sum(gradient * (state["start"] - hyper.parameter)),
            "denominator": ops.sum(ops.abs(self._dual_sum(gradient, state, hyper))),
        }

    def reduce_stats(self, sums: State, old: State, hyper: Hyper) -> State:
        numerator = self._beta_3(hyper) * old["numerator"] + sums["numerator"]
        estimate = hyper.d_coef * quotient(numerator, sums["denominator"])
        d = largest = ops.maximum(old["d_max"], estimate)
        if self.growth_rate is not None:
            start = ops.where(old["d"] == hyper.d0, largest, old["d"])
            d = ops.minimum(largest, hyper.growth_rate * start)
        return {"d": d, "d_max": largest, "numerator": numerator}

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        scaled = hyper.global_state_before["d"] * gradient
        m = averaged(state["momentum"], scaled, hyper.beta_1)
        v = averaged(state["velocity"], ops.square(scaled), hyper.beta_2)
        new = {
            "momentum": m,
            "velocity": v,
            "dual_sum": self._dual_sum(gradient, state, hyper),
            "start": state["start"],
        }
        denominator = ops.sqrt(v) + hyper.global_state["d"] * hyper.epsilon
        return self._rate(hyper) * m / denominator, new
