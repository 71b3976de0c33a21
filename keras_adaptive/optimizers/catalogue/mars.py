"""MARS."""

from __future__ import annotations

import dataclasses

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.moments import adam_direction
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
class MARS(AdaptiveOptimizer):
    """MARS-AdamW: Adam on gradients of which the noise is reduced.

    With the gradient g and the one before it g′ (at the first step g′ = 0), the
    momentum m, the velocity v and the learning rate η:

        c ← g + γ β₁ / (1 - β₁) · (g - g′)
        c ← c / max(‖c‖, 1)
        m ← β₁ m + (1 - β₁) c
        v ← β₂ v + (1 - β₂) c²
        w ← w - η m̂ / (√v̂ + ε)

    where m̂ = m / (1 - β₁ᵗ), v̂ likewise, and ‖c‖ is the norm over the variable. It is
    the approximate form, with one gradient a step: g′ is of the last batch at the last
    weights, where the exact one would evaluate this batch there.

    When to use: to try in place of AdamW for language models with large batches. Not
        where batches are small and noisy: the difference of two gradients then holds
        mostly the difference of the batches. What matters: `learning_rate`,
        `weight_decay`, then `gamma`; with `gamma=0` it is AdamW with clipping.

    Sparse gradients: `"lazy"`. The gradient before is that of the row's last touch,
    and ‖c‖ the norm over the rows at hand. There is no closed form for the steps that a
    row misses: the first of them moves it by -g′, and by how much that is clipped
    depends on all rows.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.MARS(0.003, weight_decay=0.01), "mse")

    References:

    - [Yuan et al., 2024](https://arxiv.org/abs/2411.10438)
    """

    learning_rate: LearningRate = hyperparameter(0.003)
    beta_1: float = hyperparameter(0.95, DECAY_RATE, "Decay rate of the momentum.")
    beta_2: float = hyperparameter(0.99, DECAY_RATE, "Decay rate of the velocity.")
    gamma: float = hyperparameter(
        0.025, NON_NEGATIVE, "γ: the share of the correction."
    )
    epsilon: float = hyperparameter(
        1e-8, NON_NEGATIVE, "Keeps the denominator away from zero."
    )
    optimize_1d: bool = hyperparameter(
        True,
        doc="""Whether vectors and scalars (biases, scales) are updated like
        matrices. With `False`, as the authors train, they are updated by
        AdamW with the four arguments below.""",
    )
    beta_1_1d: float = hyperparameter(
        0.9, DECAY_RATE, "Their decay rate of the momentum."
    )
    beta_2_1d: float = hyperparameter(
        0.95, DECAY_RATE, "Their decay rate of the velocity."
    )
    learning_rate_1d_factor: float = hyperparameter(
        1.0, NON_NEGATIVE, "Their learning rate, as a multiple of `learning_rate`."
    )
    weight_decay_1d: float | None = hyperparameter(
        None,
        dataclasses.replace(NON_NEGATIVE, optional=True),
        "Their weight decay; by default `weight_decay`.",
    )

    slots = {"momentum": Slot(), "velocity": Slot(), "last_gradient": Slot()}

    def complete(self):
        if self.weight_decay_1d is not None and self.weight_decay is None:
            self.weight_decay = 0.0

    def _is_adamw_s(self, tensor) -> bool:
        return not self.optimize_1d and len(tensor.shape) < 2

    def decayed(self, parameter, hyper):
        if not self._is_adamw_s(parameter):
            return super().decayed(parameter, hyper)
        decay = hyper.weight_decay
        if self.weight_decay_1d is not None:
            decay = hyper.weight_decay_1d
        rate = hyper.learning_rate * hyper.learning_rate_1d_factor
        return parameter - parameter * decay * rate

    def _corrected(self, gradient, last, hyper):
        scale = hyper.gamma * hyper.beta_1 / (1 - hyper.beta_1)
        c = gradient + scale * (gradient - last)
        return c / ops.maximum(norm(c), hyper.number(1.0))

    def rule(self, gradient, state, hyper):
        if self._is_adamw_s(gradient):
            rate = hyper.learning_rate * hyper.learning_rate_1d_factor
            beta_1, beta_2, c = hyper.beta_1_1d, hyper.beta_2_1d, gradient
        else:
            rate, beta_1, beta_2 = hyper.learning_rate, hyper.beta_1, hyper.beta_2
            c = self._corrected(gradient, state["last_gradient"], hyper)
        direction, new = adam_direction(c, state, beta_1, beta_2, hyper)
        return rate * direction, {**new, "last_gradient": gradient}
