"""Lion."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.contract import (
    PACKAGE,
    Interval,
    LearningRate,
    Slot,
    hyperparameter,
)

BETWEEN_0_AND_1 = Interval(0.0, 1.0, open_low=True, open_high=True)


@keras.saving.register_keras_serializable(PACKAGE)
class Lion(AdaptiveOptimizer):
    """Lion: the sign of a momentum.

    With the gradient g, the momentum m and the learning rate η:

        w ← w - η sign(β₁ m + (1 - β₁) g)
        m ← β₂ m + (1 - β₂) g

    Every entry moves by η, whatever the gradient's size, so the rate has to be
    smaller than Adam's, by 3 to 10 times, and the weight decay larger by as much.

    When to use: large batches and long training of transformers and vision models,
        with half of Adam's memory. Not with small batches, where the sign is mostly
        noise, nor without a schedule that ends near 0, since the steps never get
        smaller by themselves. What matters: `learning_rate` and `weight_decay`
        together, then `beta_2`.

    Sparse gradients, `"deferred"`: after d steps with zero gradient m has decayed by
    β₂ᵈ and kept its sign, and the weights have moved by -sign(m) Σ ηₜ₊ⱼ. Exact. A row
    that is never touched again drifts on at full speed, in dense updates too, until m
    underflows: for tables with rare rows `cautious=True` or `sparse="lazy"` is often
    the better choice.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.Lion(1e-4, weight_decay=0.1), "mse")

    References:

    - [Chen et al., 2023](https://arxiv.org/abs/2302.06675)
    """

    learning_rate: LearningRate = hyperparameter(0.001)
    beta_1: float = hyperparameter(
        0.9, BETWEEN_0_AND_1, "Share of the momentum in the step."
    )
    beta_2: float = hyperparameter(0.99, BETWEEN_0_AND_1, "Decay rate of the momentum.")

    slots = {"momentum": Slot()}

    def rule(self, gradient, state, hyper):
        m = state["momentum"]
        mixed = hyper.beta_1 * m + (1 - hyper.beta_1) * gradient
        m = hyper.beta_2 * m + (1 - hyper.beta_2) * gradient
        return hyper.learning_rate * ops.sign(mixed), {"momentum": m}

    def catch_up(self, state, skipped_steps, hyper):
        m = state["momentum"]
        return ops.sign(m), {"momentum": ops.power(hyper.beta_2, skipped_steps) * m}

    def drift(self, hyper):
        return hyper.learning_rate, 1.0
