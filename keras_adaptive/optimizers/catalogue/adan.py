"""Adan."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.base import PACKAGE, AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.moments import averaged, unbiased
from keras_adaptive.optimizers.contract.constraints import DECAY_RATE, NON_NEGATIVE
from keras_adaptive.optimizers.contract.slot import Slot


@keras.saving.register_keras_serializable(PACKAGE)
class Adan(AdaptiveOptimizer):
    """Adan: Adam with Nesterov momentum, from the differences of gradients.

    With the gradient g and the one before it g′ (at the first step g′ = g), the
    momentum m, the mean difference v, the second moment n and the learning rate η:

        m ← β₁ m + (1 - β₁) g
        v ← β₂ v + (1 - β₂) (g - g′)
        n ← β₃ n + (1 - β₃) (g + β₂ (g - g′))²
        w ← w - η (m̂ + β₂ v̂) / (√n̂ + ε)

    where m̂ = m / (1 - β₁ᵗ), and v̂ and n̂ likewise. The betas are decay rates, as in
    the authors' code; those in the paper are one minus these.

    When to use: vision models and transformers, with rates above Adam's. Not where
        memory is short (four numbers a parameter), nor with very small batches, whose
        differences of gradients are mostly noise. What matters: `learning_rate`,
        `weight_decay`, then `beta_3`.

    Args:
        learning_rate: A float, a schedule, or a callable. Defaults to `0.001`; the
            authors use 5 to 10 times the rate of Adam.
        beta_1: Decay rate of the momentum, in `[0, 1)`. Defaults to `0.98`.
        beta_2: Decay rate of the differences, in `[0, 1)`. Defaults to `0.92`.
        beta_3: Decay rate of the second moment, in `[0, 1)`. Defaults to `0.99`.
        epsilon: Keeps the denominator away from zero. Defaults to `1e-8`.
        no_prox: How `weight_decay` λ is applied. By default the weights are divided
            by 1 + η λ after the step (a proximal step, the paper's); with `True`
            they are multiplied by 1 - η λ before it, as AdamW's.
        **options: Keras's base options and `sparse`; see `AdaptiveOptimizer`.

    Sparse gradients: `"lazy"`, and the gradient before is that of the row's last
    touch. There is no closed form for the steps that a row misses: the first of them
    has a difference of -g′, the others of zero, and then m and v drift on at two
    rates, which are no drift along one direction.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> optimizer = keras_adaptive.optimizers.Adan(0.005, weight_decay=0.02)
    >>> model.compile(optimizer, "mse")

    References:

    - [Xie et al., 2022](https://arxiv.org/abs/2208.06677)
    """

    slots = {
        "momentum": Slot(),
        "difference": Slot(),
        "velocity": Slot(),
        "last_gradient": Slot(),
    }
    bounds = {
        "beta_1": DECAY_RATE,
        "beta_2": DECAY_RATE,
        "beta_3": DECAY_RATE,
        "epsilon": NON_NEGATIVE,
    }

    def __init__(
        self,
        learning_rate=0.001,
        beta_1: float = 0.98,
        beta_2: float = 0.92,
        beta_3: float = 0.99,
        epsilon: float = 1e-8,
        no_prox: bool = False,
        **options,
    ):
        super().__init__(learning_rate, **options)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.beta_3 = beta_3
        self.epsilon = epsilon
        self.no_prox = no_prox

    def decayed(self, parameter, hyper):
        return super().decayed(parameter, hyper) if self.no_prox else parameter

    def rule(self, gradient, state, hyper):
        beta_1, beta_2, beta_3, t = hyper.beta_1, hyper.beta_2, hyper.beta_3, hyper.step
        last = ops.where(ops.equal(t, 1), gradient, state["last_gradient"])
        change = gradient - last
        m = averaged(state["momentum"], gradient, beta_1)
        v = averaged(state["difference"], change, beta_2)
        n = averaged(state["velocity"], ops.square(gradient + beta_2 * change), beta_3)
        ahead = unbiased(m, beta_1, t) + beta_2 * unbiased(v, beta_2, t)
        root = ops.sqrt(unbiased(n, beta_3, t))
        step = hyper.learning_rate * ahead / (root + hyper.epsilon)
        if not self.no_prox:
            decay = hyper.learning_rate * hyper.weight_decay
            step = (step + decay * hyper.parameter) / (1 + decay)
        return step, {
            "momentum": m,
            "difference": v,
            "velocity": n,
            "last_gradient": gradient,
        }
