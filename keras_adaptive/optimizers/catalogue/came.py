"""CAME."""

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
)
from keras_adaptive.optimizers.catalogue.shared.moments import averaged
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    PACKAGE,
    POSITIVE,
    Hyper,
    LearningRate,
    Slot,
    State,
    hyperparameter,
)


@keras.saving.register_keras_serializable(PACKAGE)
class CAME(AdaptiveOptimizer):
    """CAME: Adafactor with momentum, slower where the updates disagree with it.

    With the gradient g, the learning rate η, and two factored running means V and S
    as in Adafactor (a mean for each row and one for each column), decayed by β₂ and β₃:

        V ← mean of g² + ε₁
        u = g / √V,  û = u / max(1, rms(u) / d)
        m ← β₁ m + (1 - β₁) û
        S ← mean of (û - m)² + ε₂
        w ← w - η m / √S

    No mean is corrected for its start at zero. A vector keeps V whole and steps by
    η m; its part of S is not used.

    When to use: pre-training large models when AdamW's memory is the limit: half of its
        state. Not for small models, where it saves nothing and has more to tune. What
        matters: `learning_rate`, with a warm-up, since the division by √S makes early
        steps large, and `weight_decay`.

    Sparse gradients: always `"dense"`, since the means of the columns and rms(u)
    take every row.

    Raises:
        ValueError: As `AdaptiveOptimizer`; also if `sparse` is not `"dense"`.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.CAME(2e-4, weight_decay=0.01), "mse")

    References:

    - [Luo et al., 2023](https://arxiv.org/abs/2307.02047)
    """

    learning_rate: LearningRate = hyperparameter(default=0.001)
    beta_1: float = hyperparameter(
        DECAY_RATE, "β₁, the momentum's decay rate.", default=0.9
    )
    beta_2: float = hyperparameter(
        DECAY_RATE, "β₂, the decay rate of V.", default=0.999
    )
    beta_3: float = hyperparameter(
        DECAY_RATE, "β₃, the decay rate of S.", default=0.9999
    )
    epsilon_1: float = hyperparameter(
        NON_NEGATIVE, "ε₁, keeps V away from zero.", default=1e-30
    )
    epsilon_2: float = hyperparameter(
        NON_NEGATIVE, "ε₂, keeps S away from zero.", default=1e-16
    )
    clip_threshold: float = hyperparameter(
        POSITIVE, "d, the largest root mean square of û.", default=1.0
    )

    slots = {
        "momentum": Slot(),
        **factored_slots("velocity"),
        **factored_slots("instability"),
    }
    dense_only = DENSE_ONLY

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        squares = ops.square(gradient) + hyper.epsilon_1
        v, velocity = moment("velocity", state, squares, hyper.beta_2)
        update = clipped(gradient / ops.sqrt(v), hyper.clip_threshold)
        m = averaged(state["momentum"], update, hyper.beta_1)
        new = {**state, **velocity, "momentum": m}
        step = hyper.learning_rate * m
        if len(gradient.shape) < 2:
            return step, new
        residual = ops.square(update - m) + hyper.epsilon_2
        s, instability = moment("instability", state, residual, hyper.beta_3)
        return step / ops.sqrt(s), {**new, **instability}
