"""Lamb."""

from __future__ import annotations

from typing import Any

import keras

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.moments import adam_direction
from keras_adaptive.optimizers.catalogue.shared.norms import trust_ratio
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
from keras_adaptive.optimizers.contract.norms import norm


@keras.saving.register_keras_serializable(PACKAGE)
class Lamb(AdaptiveOptimizer):
    """Lamb: Adam with steps in proportion to the weights, for large batches.

    With the gradient g at step t, the momentum m, the velocity v, the learning rate
    η and the weight decay λ:

        m ← β₁ m + (1 - β₁) g
        v ← β₂ v + (1 - β₂) g²
        u = m̂ / (√v̂ + ε) + λ w
        w ← w - η ‖w‖ / ‖u‖ · u

    where m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ). The norms are those of the whole
    variable. Their ratio counts as 1 if one of them is 0. As in the paper, weight decay
    is part of u, so the length of the step is η ‖w‖ for every λ.
    `keras.optimizers.Lamb` applies weight decay outside of u.

    When to use: for very large batches (thousands of examples), where AdamW's learning
        rate stops scaling with the batch. Avoid it for small batches, where AdamW is as
        good, for weights that start at zero, and for weights whose size has a meaning.
        What matters: `learning_rate` with warmup and decay, and `weight_decay`, without
        which the weights grow.

    Sparse gradients: `"dense"` only, because the norms need the whole variable.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> optimizer = keras_adaptive.optimizers.Lamb(0.01, weight_decay=0.01)
    >>> optimizer.exclude_from_weight_decay(var_names=["bias"])
    >>> model.compile(optimizer, "mse")

    References:

    - [You et al., 2019](https://arxiv.org/abs/1904.00962)
    """

    learning_rate: LearningRate = hyperparameter(default=0.001)
    beta_1: float = hyperparameter(
        DECAY_RATE, "β₁, decay rate of the momentum.", default=0.9
    )
    beta_2: float = hyperparameter(
        DECAY_RATE, "β₂, decay rate of the velocity.", default=0.999
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE, "ε, added to the denominator.", default=1e-7
    )

    slots = {"momentum": Slot(), "velocity": Slot()}
    dense_only = (
        "it needs the norms of whole variables. Use sparse='dense', or for large "
        "tables Adam or AdamW."
    )

    def decayed(self, parameter: Any, hyper: Hyper) -> Any:
        return parameter

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        direction, new = adam_direction(
            gradient, state, hyper.beta_1, hyper.beta_2, hyper
        )
        u = direction + hyper.weight_decay * hyper.parameter
        size, length = norm(hyper.parameter), norm(u)
        ratio = trust_ratio(size, length, (size > 0) & (length > 0))
        return hyper.learning_rate * ratio * u, new
