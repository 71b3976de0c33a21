"""NovoGrad."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.moments import averaged
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
class NovoGrad(AdaptiveOptimizer):
    """NovoGrad: momentum of gradients divided by their norm.

    With the gradient g, the momentum m, one velocity v a variable, the learning rate η
    and the weight decay λ:

        v ← β₂ v + (1 - β₂) ‖g‖²
        m ← β₁ m + g / (√v + ε) + λ w
        w ← w - η m

    The first gradient (that is not zero) sets v = ‖g‖², so nothing needs a correction.
    The momentum is a sum, not a mean: steps are 1 / (1 - β₁) times as long as Adam's
    at the same learning rate.

    When to use: half of Adam's memory, and gradients whose size differs by layer more
        than by entry: speech and convolutional networks. Not for embeddings and other
        sparse features, whose entries need rates of their own. What matters:
        `learning_rate` and `weight_decay`.

    Sparse gradients: `"dense"` only, as the norm is of the whole variable.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> optimizer = keras_adaptive.optimizers.NovoGrad(0.01, weight_decay=0.001)
    >>> model.compile(optimizer, "mse")

    References:

    - [Ginsburg et al., 2019](https://arxiv.org/abs/1905.11286)
    """

    learning_rate: LearningRate = hyperparameter(0.001)
    beta_1: float = hyperparameter(0.95, DECAY_RATE, "Decay rate of the momentum.")
    beta_2: float = hyperparameter(0.98, DECAY_RATE, "Decay rate of the velocity.")
    epsilon: float = hyperparameter(
        1e-8, NON_NEGATIVE, "Keeps the denominator away from zero."
    )

    slots = {"momentum": Slot(), "velocity": Slot(shape_of=lambda shape: ())}
    dense_only = (
        "it needs the norms of whole variables. Use sparse='dense', or for large "
        "tables Adam with row_wise=True."
    )

    def decayed(self, parameter, hyper):
        return parameter

    def rule(self, gradient, state, hyper):
        square = ops.square(norm(gradient))
        v = averaged(state["velocity"], square, hyper.beta_2)
        v = ops.where(state["velocity"] > 0, v, square)
        normalised = gradient / (ops.sqrt(v) + hyper.epsilon)
        decay = hyper.weight_decay * hyper.parameter
        m = hyper.beta_1 * state["momentum"] + normalised + decay
        return hyper.learning_rate * m, {"momentum": m, "velocity": v}
