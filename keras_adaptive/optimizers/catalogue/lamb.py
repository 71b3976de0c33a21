"""Lamb."""

from __future__ import annotations

import keras

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.moments import adam_direction
from keras_adaptive.optimizers.catalogue.shared.norms import trust_ratio
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    PACKAGE,
    LearningRate,
    Slot,
    hyperparameter,
)
from keras_adaptive.optimizers.contract.norms import norm


@keras.saving.register_keras_serializable(PACKAGE)
class Lamb(AdaptiveOptimizer):
    """Lamb: Adam whose step is in proportion to the variable; for large batches.

    With the gradient g at step t, the momentum m, the velocity v, the learning rate
    η and the weight decay λ:

        m ← β₁ m + (1 - β₁) g
        v ← β₂ v + (1 - β₂) g²
        u = m̂ / (√v̂ + ε) + λ w
        w ← w - η ‖w‖ / ‖u‖ · u

    where m̂ = m / (1 - β₁ᵗ), v̂ likewise, and the norms are over the variable; their
    ratio is 1 if one of them is 0. As in the paper the decay is part of u, so the
    step is η ‖w‖ long whatever λ is; `keras.optimizers.Lamb` decays outside of it.

    When to use: very large batches (thousands of examples), where AdamW's rate stops
        scaling with the batch. Not for small ones, where AdamW is as good, nor for
        weights that start at zero or sizes that mean something. What matters:
        `learning_rate` with warm-up and decay, and `weight_decay`, without which the
        weights grow.

    Sparse gradients: `"dense"` only, as the norms are of the whole variable.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> optimizer = keras_adaptive.optimizers.Lamb(0.01, weight_decay=0.01)
    >>> optimizer.exclude_from_weight_decay(var_names=["bias"])
    >>> model.compile(optimizer, "mse")

    References:

    - [You et al., 2019](https://arxiv.org/abs/1904.00962)
    """

    learning_rate: LearningRate = hyperparameter(0.001)
    beta_1: float = hyperparameter(0.9, DECAY_RATE, "Decay rate of the momentum.")
    beta_2: float = hyperparameter(0.999, DECAY_RATE, "Decay rate of the velocity.")
    epsilon: float = hyperparameter(
        1e-7, NON_NEGATIVE, "Keeps the denominator away from zero."
    )

    slots = {"momentum": Slot(), "velocity": Slot()}
    dense_only = (
        "it needs the norms of whole variables. Use sparse='dense', or for large "
        "tables Adam or AdamW."
    )

    def decayed(self, parameter, hyper):
        return parameter

    def rule(self, gradient, state, hyper):
        direction, new = adam_direction(
            gradient, state, hyper.beta_1, hyper.beta_2, hyper
        )
        u = direction + hyper.weight_decay * hyper.parameter
        size, length = norm(hyper.parameter), norm(u)
        ratio = trust_ratio(size, length, (size > 0) & (length > 0))
        return hyper.learning_rate * ratio * u, new
