"""MARS."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.moments import adam_direction
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    NON_NEGATIVE_OR_NONE,
    PACKAGE,
    Hyper,
    LearningRate,
    Slot,
    State,
    hyperparameter,
)
from keras_adaptive.optimizers.contract.norms import norm


@keras.saving.register_keras_serializable(PACKAGE)
class MARS(AdaptiveOptimizer):
    """MARS-AdamW: Adam on gradients with reduced noise.

    With the gradient g, the gradient g′ of the step before (0 at the first step), the
    momentum m, the velocity v and the learning rate η:

        c ← g + γ β₁ / (1 - β₁) · (g - g′)
        c ← c / max(‖c‖, 1)
        m ← β₁ m + (1 - β₁) c
        v ← β₂ v + (1 - β₂) c²
        w ← w - η m̂ / (√v̂ + ε)

    where m̂ = m / (1 - β₁ᵗ), v̂ = v / (1 - β₂ᵗ), and ‖c‖ is the norm over the variable.
    This is the approximate form, which takes one gradient a step: g′ belongs to the
    last batch at the last weights. The exact form would evaluate the current batch at
    the last weights.

    With `optimize_1d=False`, as the authors train, vectors and scalars (biases, scales)
    are updated by AdamW with the hyper-parameters whose names contain `1d`.

    When to use: for language models with large batches, as an alternative to AdamW.
        Avoid it where batches are small and noisy, because the difference of two
        gradients is then mostly the difference of their batches. What matters:
        `learning_rate`, `weight_decay`, then `gamma`. With `gamma=0` it is AdamW with
        clipping.

    Sparse gradients: `"lazy"`. g′ is the gradient of the row's last touch, and ‖c‖ is
    the norm over the rows that the gradient touches. The skipped steps of a row have no
    closed form: the first of them moves the row by -g′, clipped by a norm that depends
    on all rows.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.MARS(0.003, weight_decay=0.01), "mse")

    References:

    - [Yuan et al., 2024](https://arxiv.org/abs/2411.10438)
    """

    learning_rate: LearningRate = hyperparameter(default=0.003)
    beta_1: float = hyperparameter(
        DECAY_RATE, "β₁, decay rate of the momentum.", default=0.95
    )
    beta_2: float = hyperparameter(
        DECAY_RATE, "β₂, decay rate of the velocity.", default=0.99
    )
    gamma: float = hyperparameter(
        NON_NEGATIVE, "γ, scales the correction of g.", default=0.025
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE, "ε, added to the denominator.", default=1e-8
    )
    optimize_1d: bool = hyperparameter(
        doc="Updates vectors like matrices.", default=True
    )
    beta_1_1d: float = hyperparameter(
        DECAY_RATE, "β₁ of AdamW for vectors.", default=0.9
    )
    beta_2_1d: float = hyperparameter(
        DECAY_RATE, "β₂ of AdamW for vectors.", default=0.95
    )
    learning_rate_1d_factor: float = hyperparameter(
        NON_NEGATIVE,
        "The learning rate of vectors, relative to `learning_rate`.",
        default=1.0,
    )
    weight_decay_1d: float | None = hyperparameter(
        NON_NEGATIVE_OR_NONE,
        "`weight_decay` of vectors; `None` for the same.",
        default=None,
    )

    slots = {"momentum": Slot(), "velocity": Slot(), "last_gradient": Slot()}

    def complete(self) -> None:
        if self.weight_decay_1d is not None and self.weight_decay is None:
            self.weight_decay = 0.0

    def decayed(self, parameter: Any, hyper: Hyper) -> Any:
        if self.optimize_1d or len(parameter.shape) > 1:
            return super().decayed(parameter, hyper)
        same = self.weight_decay_1d is None
        decay = hyper.weight_decay if same else hyper.weight_decay_1d
        return parameter - parameter * decay * vector_rate(hyper)

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        as_matrix = self.optimize_1d or len(gradient.shape) > 1
        step, new = (matrix_step if as_matrix else vector_step)(gradient, state, hyper)
        return step, {**new, "last_gradient": gradient}


def matrix_step(gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
    """Returns the step of MARS and the new moments."""
    scale = hyper.gamma * hyper.beta_1 / (1 - hyper.beta_1)
    c = gradient + scale * (gradient - state["last_gradient"])
    c = c / ops.maximum(norm(c), hyper.number(1.0))
    direction, new = adam_direction(c, state, hyper.beta_1, hyper.beta_2, hyper)
    return hyper.learning_rate * direction, new


def vector_step(gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
    """Returns the step of AdamW and the new moments."""
    beta_1, beta_2 = hyper.beta_1_1d, hyper.beta_2_1d
    direction, new = adam_direction(gradient, state, beta_1, beta_2, hyper)
    return vector_rate(hyper) * direction, new


def vector_rate(hyper: Hyper) -> Any:
    """Returns the learning rate of AdamW for vectors."""
    return hyper.learning_rate * hyper.learning_rate_1d_factor
