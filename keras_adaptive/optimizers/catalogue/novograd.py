"""NovoGrad."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.moments import averaged
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
class NovoGrad(AdaptiveOptimizer):
    """NovoGrad: momentum of gradients that are divided by their norm.

    With the gradient g, the momentum m, one velocity v per variable, the learning rate
    η and the weight decay λ:

        v ← β₂ v + (1 - β₂) ‖g‖²
        m ← β₁ m + g / (√v + ε) + λ w
        w ← w - η m

    The first gradient that is not zero sets v = ‖g‖², so no bias correction is needed.
    The momentum is a sum, not a mean: steps are 1 / (1 - β₁) times as long as Adam's
    at the same learning rate.

    When to use: for speech and convolutional networks, whose gradients differ in size
        more between layers than between entries. It takes half of Adam's memory. Avoid
        it for embeddings and other sparse features, whose entries need their own rates.
        What matters: `learning_rate` and `weight_decay`.

    Sparse gradients: `"dense"` only, because the norm needs the whole variable.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> optimizer = keras_adaptive.optimizers.NovoGrad(0.01, weight_decay=0.001)
    >>> model.compile(optimizer, "mse")

    References:

    - [Ginsburg et al., 2019](https://arxiv.org/abs/1905.11286)
    """

    learning_rate: LearningRate = hyperparameter(default=0.001)
    beta_1: float = hyperparameter(
        DECAY_RATE, "β₁, decay rate of the momentum.", default=0.95
    )
    beta_2: float = hyperparameter(
        DECAY_RATE, "β₂, decay rate of the velocity.", default=0.98
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE, "ε, added to the denominator.", default=1e-8
    )

    slots = {"momentum": Slot(), "velocity": Slot(shape_of=lambda shape: ())}
    dense_only = (
        "it needs the norms of whole variables. Use sparse='dense', or for large "
        "tables Adam with row_wise=True."
    )

    def decayed(self, parameter: Any, hyper: Hyper) -> Any:
        return parameter

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        square = ops.square(norm(gradient))
        v = averaged(state["velocity"], square, hyper.beta_2)
        v = ops.where(state["velocity"] > 0, v, square)
        normalized = gradient / (ops.sqrt(v) + hyper.epsilon)
        decay = hyper.weight_decay * hyper.parameter
        m = hyper.beta_1 * state["momentum"] + normalized + decay
        return hyper.learning_rate * m, {"momentum": m, "velocity": v}
