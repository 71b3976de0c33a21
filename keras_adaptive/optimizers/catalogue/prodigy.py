"""Prodigy."""

from __future__ import annotations

import dataclasses

import keras
from keras import ops

from keras_adaptive.optimizers.base import PACKAGE
from keras_adaptive.optimizers.catalogue.dadapt import DAdaptAdam, quotient
from keras_adaptive.optimizers.catalogue.shared.moments import averaged
from keras_adaptive.optimizers.contract.constraints import DECAY_RATE, POSITIVE
from keras_adaptive.optimizers.contract.slot import PARAMETER, Slot


@keras.saving.register_keras_serializable(PACKAGE)
class Prodigy(DAdaptAdam):
    """Prodigy: Adam whose learning rate is estimated, faster than D-Adaptation.

    With the gradient g, the weights w, their initial values w₀, the learning rate η,
    a = d η (times Adam's bias correction with `use_bias_correction`) and sums over all
    variables:

        m ← β₁ m + (1 - β₁) d g
        v ← β₂ v + (1 - β₂) d² g²
        s ← β₃ s + a g d / d₀
        n ← β₃ n + (a d / d₀) Σ g (w₀ - w)
        d' = min(max over all steps of c n / Σ |s|, γ d), at least d₀
        w ← w - a m / (√v + d' ε)
        d ← d'

    η is 1, or what a schedule makes of it; c is what to tune, if anything. w₀ is what
    the weights are when the optimizer is built.

    When to use: the first of the methods without a learning rate to search to try: for
        fine-tuning, adapters, diffusion models. Not where memory is short (four numbers
        a parameter) or a good rate for AdamW is known. What matters: a decaying
        schedule of `learning_rate`, `weight_decay`, then `d_coef` (0.5 to 2); with a
        warmup, `safeguard_warmup=True`.

    Args:
        learning_rate: The factor η: a float, a schedule, or a callable. Defaults to
            `1.0`.
        beta_1: Decay rate of the momentum, in `[0, 1)`. Defaults to `0.9`.
        beta_2: Decay rate of the velocity, in `[0, 1)`. Defaults to `0.999`.
        beta_3: Decay rate of the sums s and n, in `[0, 1)`; `None`, the default, for
            √β₂.
        epsilon: Keeps the denominator away from zero. Defaults to `1e-8`.
        d0: d₀, the d to start from; smaller than the rate sought. Defaults to `1e-6`.
        d_coef: c, the factor of the estimate. Defaults to `1.0`.
        growth_rate: γ, at least 1; `None`, the default, for no limit. The first step
            away from d₀ has none either.
        use_bias_correction: Correct the moments for starting at zero. Defaults to
            `False`.
        safeguard_warmup: Take d g d / d₀ in s, without η, so that a warmup of the
            learning rate does not make d too large. Defaults to `False`.
        **options: Keras's base options and `sparse`; see `AdaptiveOptimizer`. A step
            decays the weights by a · `weight_decay`.

    Sparse gradients: always `"dense"`, since the sums take every row.

    Raises:
        ValueError: As `AdaptiveOptimizer`; also if `sparse` is not `"dense"`.

    Example:

    >>> import keras, keras_adaptive
    >>> rate = keras.optimizers.schedules.CosineDecay(1.0, 1000)
    >>> optimizer = keras_adaptive.optimizers.Prodigy(rate, weight_decay=0.01)

    References:

    - [Mishchenko & Defazio, 2023](https://arxiv.org/abs/2306.06101)
    """

    slots = {**DAdaptAdam.slots, "start": Slot(PARAMETER)}
    bounds = {
        **DAdaptAdam.bounds,
        "beta_3": dataclasses.replace(DECAY_RATE, optional=True),
        "d_coef": POSITIVE,
    }

    def __init__(
        self,
        learning_rate=1.0,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        beta_3: float | None = None,
        epsilon: float = 1e-8,
        d0: float = 1e-6,
        d_coef: float = 1.0,
        growth_rate: float | None = None,
        use_bias_correction: bool = False,
        safeguard_warmup: bool = False,
        **options,
    ):
        super().__init__(
            learning_rate,
            beta_1,
            beta_2,
            epsilon,
            d0,
            growth_rate,
            use_bias_correction,
            **options,
        )
        self.beta_3 = beta_3
        self.d_coef = d_coef
        self.safeguard_warmup = safeguard_warmup

    @property
    def shared_slots(self):
        return {**super().shared_slots, "d_max": Slot(self.d0)}

    def _beta_3(self, hyper):
        return ops.sqrt(hyper.beta_2) if self.beta_3 is None else hyper.beta_3

    def _dual_sum(self, gradient, state, hyper):
        d = hyper.shared_before["d"]
        rate = d if self.safeguard_warmup else self._rate(hyper)
        return self._beta_3(hyper) * state["dual_sum"] + d / hyper.d0 * rate * gradient

    def measure(self, gradient, state, hyper):
        scale = hyper.shared_before["d"] / hyper.d0 * self._rate(hyper)
        return {
            "numerator": scale * ops.sum(gradient * (state["start"] - hyper.parameter)),
            "denominator": ops.sum(ops.abs(self._dual_sum(gradient, state, hyper))),
        }

    def share(self, sums, shared, hyper):
        numerator = self._beta_3(hyper) * shared["numerator"] + sums["numerator"]
        estimate = hyper.d_coef * quotient(numerator, sums["denominator"])
        d = largest = ops.maximum(shared["d_max"], estimate)
        if self.growth_rate is not None:
            start = ops.where(shared["d"] == hyper.d0, largest, shared["d"])
            d = ops.minimum(largest, hyper.growth_rate * start)
        return {"d": d, "d_max": largest, "numerator": numerator}

    def rule(self, gradient, state, hyper):
        scaled = hyper.shared_before["d"] * gradient
        m = averaged(state["momentum"], scaled, hyper.beta_1)
        v = averaged(state["velocity"], ops.square(scaled), hyper.beta_2)
        new = {
            "momentum": m,
            "velocity": v,
            "dual_sum": self._dual_sum(gradient, state, hyper),
            "start": state["start"],
        }
        denominator = ops.sqrt(v) + hyper.shared["d"] * hyper.epsilon
        return self._rate(hyper) * m / denominator, new
