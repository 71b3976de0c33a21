"""Adan."""

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
    Slot,
    State,
    hyperparameter,
)

SLOTS = ("momentum", "difference", "velocity", "last_gradient")


@keras.saving.register_keras_serializable(PACKAGE)
class Adan(AdaptiveOptimizer):
    """Adan: Adam with Nesterov momentum, from the differences of gradients.

    With the gradient g and the one before it g′ (at the first step g′ = g), the
    momentum m, the mean difference v, the second moment n and the learning rate η:

        m ← β₁ m + (1 - β₁) g
        v ← β₂ v + (1 - β₂) (g - g′)
        n ← β₃ n + (1 - β₃) (g + β₂ (g - g′))²
        w ← w - η (m̂ + β₂ v̂) / (√n̂ + ε)

    Here m̂ = m / (1 - β₁ᵗ), and v̂ and n̂ likewise. The betas are decay rates, as in the
    authors' code; the paper's betas are one minus these.

    A weight decay of λ divides the weights by 1 + η λ after the step. This is the
    paper's proximal step. With `no_prox=True` the weights are multiplied by 1 - η λ
    before the step, as in AdamW.

    When to use: vision models and transformers, with higher rates than Adam's: the
        authors use 5 to 10 times Adam's rate. Not where memory is short (four numbers a
        parameter), nor with very small batches, whose differences of gradients are
        mostly noise. What matters: `learning_rate`, `weight_decay`, then `beta_3`.

    Sparse gradients: `"lazy"`. The gradient before is that of the row's last touch.
    The steps that a row skips have no closed form: the first of them has a difference
    of -g′ and the others have none. Then m and v decay at two rates, and the direction
    of the drift turns.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> optimizer = keras_adaptive.optimizers.Adan(0.005, weight_decay=0.02)
    >>> model.compile(optimizer, "mse")

    References:

    - [Xie et al., 2022](https://arxiv.org/abs/2208.06677)
    """

    learning_rate: LearningRate = hyperparameter(default=0.001)
    beta_1: float = hyperparameter(DECAY_RATE, "β₁, the decay rate of m.", default=0.98)
    beta_2: float = hyperparameter(DECAY_RATE, "β₂, the decay rate of v.", default=0.92)
    beta_3: float = hyperparameter(DECAY_RATE, "β₃, the decay rate of n.", default=0.99)
    epsilon: float = hyperparameter(
        NON_NEGATIVE, "ε, the smallest denominator.", default=1e-8
    )
    no_prox: bool = hyperparameter(
        doc="Applies `weight_decay` as AdamW does.", default=False
    )

    slots = dict.fromkeys(SLOTS, Slot())

    def decayed(self, parameter: Any, hyper: Hyper) -> Any:
        return super().decayed(parameter, hyper) if self.no_prox else parameter

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
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
            step = _proximal(step, hyper)
        return step, dict(zip(SLOTS, (m, v, n, gradient), strict=True))


def _proximal(step: Any, hyper: Hyper) -> Any:
    """Returns a step with the weight decay that divides the weights after it."""
    decay = hyper.learning_rate * hyper.weight_decay
    return (step + decay * hyper.parameter) / (1 + decay)
