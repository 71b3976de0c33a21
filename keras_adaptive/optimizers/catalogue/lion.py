"""Lion."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.base import PACKAGE, AdaptiveOptimizer
from keras_adaptive.optimizers.contract.constraints import Interval
from keras_adaptive.optimizers.contract.slot import Slot

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

    Args:
        learning_rate: A float, a schedule, or a callable. Defaults to `0.001`.
        beta_1: Share of the momentum in the step, in `(0, 1)`. Defaults to `0.9`.
        beta_2: Decay rate of the momentum, in `(0, 1)`. Defaults to `0.99`.
        **options: Keras's base options and `sparse`; see `AdaptiveOptimizer`.

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

    slots = {"momentum": Slot()}
    bounds = {"beta_1": BETWEEN_0_AND_1, "beta_2": BETWEEN_0_AND_1}

    def __init__(
        self,
        learning_rate=0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        **options,
    ):
        super().__init__(learning_rate, **options)
        self.beta_1 = beta_1
        self.beta_2 = beta_2

    def rule(self, gradient, state, hyper):
        m = state["momentum"]
        mixed = hyper.beta_1 * m + (1 - hyper.beta_1) * gradient
        m = hyper.beta_2 * m + (1 - hyper.beta_2) * gradient
        return hyper.learning_rate * ops.sign(mixed), {"momentum": m}

    def idle(self, state, missed, hyper):
        m = state["momentum"]
        return ops.sign(m), {"momentum": ops.power(hyper.beta_2, missed) * m}

    def drift(self, hyper):
        return hyper.learning_rate, 1.0
