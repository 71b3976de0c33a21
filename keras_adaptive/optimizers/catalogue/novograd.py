"""NovoGrad."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.base import PACKAGE, AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.moments import averaged
from keras_adaptive.optimizers.catalogue.shared.norms import norm
from keras_adaptive.optimizers.contract.constraints import DECAY_RATE, NON_NEGATIVE
from keras_adaptive.optimizers.contract.slot import Slot


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

    Args:
        learning_rate: A float, a schedule, or a callable. Defaults to `0.001`.
        beta_1: Decay rate of the momentum, in `[0, 1)`. Defaults to `0.95`.
        beta_2: Decay rate of the velocity, in `[0, 1)`. Defaults to `0.98`.
        epsilon: Keeps the denominator away from zero. Defaults to `1e-8`.
        **options: Keras's base options; see `AdaptiveOptimizer`.

    Sparse gradients: `"dense"` only, as the norm is of the whole variable.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> optimizer = keras_adaptive.optimizers.NovoGrad(0.01, weight_decay=0.001)
    >>> model.compile(optimizer, "mse")

    References:

    - [Ginsburg et al., 2019](https://arxiv.org/abs/1905.11286)
    """

    slots = {"momentum": Slot(), "velocity": Slot(shape_of=lambda shape: ())}
    bounds = {"beta_1": DECAY_RATE, "beta_2": DECAY_RATE, "epsilon": NON_NEGATIVE}
    dense_only = (
        "it needs the norms of whole variables. Use sparse='dense', or for large "
        "tables Adam with row_wise=True."
    )

    def __init__(
        self,
        learning_rate=0.001,
        beta_1: float = 0.95,
        beta_2: float = 0.98,
        epsilon: float = 1e-8,
        **options,
    ):
        super().__init__(learning_rate, **options)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

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
