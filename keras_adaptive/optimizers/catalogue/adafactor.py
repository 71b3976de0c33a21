"""Adafactor."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.factored_moments import (
    DENSE_ONLY,
    clipped,
    factored_slots,
    moment,
    root_mean_square,
)
from keras_adaptive.optimizers.contract import (
    NON_NEGATIVE,
    PACKAGE,
    POSITIVE,
    Hyper,
    Interval,
    LearningRate,
    State,
    hyperparameter,
)


@keras.saving.register_keras_serializable(PACKAGE)
class Adafactor(AdaptiveOptimizer):
    """Adafactor: a second moment of n + m numbers for a matrix of n · m.

    With the gradient g at step t, the means R of g² over each row and C over each
    column, the learning rate η and β₂ₜ = 1 - tᶜ (c is `beta_2_decay`):

        R ← β₂ₜ R + (1 - β₂ₜ) mean(g² + ε₁, over columns)
        C ← β₂ₜ C + (1 - β₂ₜ) mean(g² + ε₁, over rows)
        u = g / √(R C / mean(R))
        w ← w - max(ε₂, rms(w)) · min(η, 1 / √t) · u / max(1, rms(u) / d)

    Here rms is the root mean square of all entries. The second moment of a vector is
    not factored. A matrix takes n + m numbers here; Keras's class keeps n · m more.

    When to use: large transformers when memory for the state is the limit. Not where
        AdamW fits: Adafactor is no better, and without momentum often slower. What
        matters: `learning_rate`, about 0.01 here, as steps are relative to the weights;
        and `clip_threshold` if training is unstable.

    Sparse gradients: always `"dense"`, since the means of the columns, rms(u) and
    rms(w) take every row.

    Raises:
        ValueError: As `AdaptiveOptimizer`; also if `sparse` is not `"dense"`.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.Adafactor(0.01), "mse")

    References:

    - [Shazeer & Stern, 2018](https://arxiv.org/abs/1804.04235)
    """

    learning_rate: LearningRate = hyperparameter(
        doc="""η, relative to the size of the weights. A float, a schedule, or a
        callable without arguments that returns it.""",
        default=0.001,
    )
    beta_2_decay: float = hyperparameter(
        Interval(-1.0, 0.0),
        "c, the exponent in the decay rate β₂ₜ = 1 - tᶜ.",
        default=-0.8,
    )
    epsilon_1: float = hyperparameter(
        NON_NEGATIVE, "ε₁, keeps the denominator away from zero.", default=1e-30
    )
    epsilon_2: float = hyperparameter(
        NON_NEGATIVE,
        "ε₂, the least size of the weights that steps are relative to.",
        default=1e-3,
    )
    clip_threshold: float = hyperparameter(
        POSITIVE, "d, the largest root mean square of u.", default=1.0
    )
    relative_step: bool = hyperparameter(
        doc="""Caps the learning rate at 1 / √t, as in the paper. With `False` every
        step takes the learning rate as it is. Keras's class caps it even then.""",
        default=True,
    )

    slots = factored_slots("velocity")
    dense_only = DENSE_ONLY

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        beta_2 = 1 - ops.power(hyper.step, hyper.beta_2_decay)
        squares = ops.square(gradient) + hyper.epsilon_1
        v, new = moment("velocity", state, squares, beta_2)
        rate = hyper.learning_rate
        if self.relative_step:
            rate = ops.minimum(rate, 1 / ops.sqrt(hyper.step))
        size = ops.maximum(hyper.epsilon_2, root_mean_square(hyper.parameter))
        update = clipped(gradient / ops.sqrt(v), hyper.clip_threshold)
        return size * rate * update, new
