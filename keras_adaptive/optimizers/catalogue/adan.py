"""Adan."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.moments import averaged, unbiased
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    PACKAGE,
    LearningRate,
    Slot,
    hyperparameter,
)


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

    learning_rate: LearningRate = hyperparameter(
        0.001, doc="; the authors use 5 to 10 times the rate of Adam."
    )
    beta_1: float = hyperparameter(0.98, DECAY_RATE, "Decay rate of the momentum.")
    beta_2: float = hyperparameter(0.92, DECAY_RATE, "Decay rate of the differences.")
    beta_3: float = hyperparameter(0.99, DECAY_RATE, "Decay rate of the second moment.")
    epsilon: float = hyperparameter(
        1e-8, NON_NEGATIVE, "Keeps the denominator away from zero."
    )
    no_prox: bool = hyperparameter(
        False,
        doc="""How `weight_decay` λ is applied. By default the weights are divided by
        1 + η λ after the step (a proximal step, the paper's); with `True`
        they are multiplied by 1 - η λ before it, as AdamW's.""",
    )

    slots = {
        "momentum": Slot(),
        "difference": Slot(),
        "velocity": Slot(),
        "last_gradient": Slot(),
    }

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
