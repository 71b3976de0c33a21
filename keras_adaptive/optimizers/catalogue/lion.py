"""Lion."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.contract import (
    PACKAGE,
    Hyper,
    Interval,
    LearningRate,
    Slot,
    State,
    hyperparameter,
)

BETWEEN_0_AND_1 = Interval(0.0, 1.0, open_low=True, open_high=True)


@keras.saving.register_keras_serializable(PACKAGE)
class Lion(AdaptiveOptimizer):
    """Lion: steps by the sign of a momentum.

    With the gradient g, the momentum m and the learning rate η:

        w ← w - η sign(β₁ m + (1 - β₁) g)
        m ← β₂ m + (1 - β₂) g

    Every entry moves by η, whatever the size of its gradient. The learning rate should
    therefore be 3 to 10 times smaller than Adam's, and the weight decay larger by the
    same factor.

    When to use: for large batches and long training of transformers and vision models,
        with half of Adam's memory. Avoid it with small batches, where the sign is
        mostly noise, and without a schedule that ends near 0, because the steps never
        shrink by themselves. What matters: `learning_rate` and `weight_decay` together,
        then `beta_2`.

    Sparse gradients, `"deferred"`: after d steps with zero gradient, m has decayed by
    β₂ᵈ and kept its sign, and the weights have moved by -sign(m) Σ ηₜ₊ⱼ. This is exact.
    A row that is never touched again keeps moving at full speed until m underflows, and
    it does so in dense updates, too. For tables with rare rows, `cautious=True` or
    `sparse="lazy"` is often the better choice.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.Lion(1e-4, weight_decay=0.1), "mse")

    References:

    - [Chen et al., 2023](https://arxiv.org/abs/2302.06675)
    """

    learning_rate: LearningRate = hyperparameter(default=0.001)
    beta_1: float = hyperparameter(
        BETWEEN_0_AND_1, "β₁, the share of the momentum in the step.", default=0.9
    )
    beta_2: float = hyperparameter(
        BETWEEN_0_AND_1, "β₂, decay rate of the momentum.", default=0.99
    )

    slots = {"momentum": Slot()}

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        m = state["momentum"]
        mixed = hyper.beta_1 * m + (1 - hyper.beta_1) * gradient
        m = hyper.beta_2 * m + (1 - hyper.beta_2) * gradient
        return hyper.learning_rate * ops.sign(mixed), {"momentum": m}

    def catch_up(
        self, state: State, skipped_steps: Any, hyper: Hyper
    ) -> tuple[Any, State]:
        m = state["momentum"]
        return ops.sign(m), {"momentum": ops.power(hyper.beta_2, skipped_steps) * m}

    def drift(self, hyper: Hyper) -> tuple[Any, Any]:
        return hyper.learning_rate, 1.0
