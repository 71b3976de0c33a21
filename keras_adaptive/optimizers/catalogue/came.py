"""CAME."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.base import PACKAGE, AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.factored_moments import (
    DENSE_ONLY,
    clipped,
    factored_slots,
    moment,
)
from keras_adaptive.optimizers.catalogue.shared.moments import averaged
from keras_adaptive.optimizers.contract.constraints import (
    DECAY_RATE,
    NON_NEGATIVE,
    POSITIVE,
)
from keras_adaptive.optimizers.contract.slot import Slot


@keras.saving.register_keras_serializable(PACKAGE)
class CAME(AdaptiveOptimizer):
    """CAME: Adafactor with momentum, slower where the updates disagree with it.

    With the gradient g, the learning rate η, and V and S factored running means as
    Adafactor's (a mean for each row and one for each column), decayed by β₂ and β₃:

        V ← mean of g² + ε₁
        u = g / √V,  û = u / max(1, rms(u) / d)
        m ← β₁ m + (1 - β₁) û
        S ← mean of (û - m)² + ε₂
        w ← w - η m / √S

    Nothing is corrected for starting at zero. A vector keeps V whole and steps by
    η m; its part of S is not used.

    When to use: pre-training large models when AdamW's memory is what limits: half of
        its state. Not for small models, where it saves nothing and has more to tune.
        What matters: `learning_rate`, with a warm-up, since the division by √S makes
        early steps large, and `weight_decay`.

    Args:
        learning_rate: A float, a schedule, or a callable. Defaults to `0.001`.
        beta_1: Decay rate of the momentum, in `[0, 1)`. Defaults to `0.9`.
        beta_2: Decay rate of V, in `[0, 1)`. Defaults to `0.999`.
        beta_3: Decay rate of S, in `[0, 1)`. Defaults to `0.9999`.
        epsilon_1: ε₁, keeps V away from zero. Defaults to `1e-30`.
        epsilon_2: ε₂, keeps S away from zero. Defaults to `1e-16`.
        clip_threshold: d, the largest root mean square of û. Defaults to `1.0`.
        **options: Keras's base options and `sparse`; see `AdaptiveOptimizer`.

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

    slots = {
        "momentum": Slot(),
        **factored_slots("velocity"),
        **factored_slots("instability"),
    }
    bounds = {
        "beta_1": DECAY_RATE,
        "beta_2": DECAY_RATE,
        "beta_3": DECAY_RATE,
        "epsilon_1": NON_NEGATIVE,
        "epsilon_2": NON_NEGATIVE,
        "clip_threshold": POSITIVE,
    }
    dense_only = DENSE_ONLY

    def __init__(
        self,
        learning_rate=0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        beta_3: float = 0.9999,
        epsilon_1: float = 1e-30,
        epsilon_2: float = 1e-16,
        clip_threshold: float = 1.0,
        **options,
    ):
        super().__init__(learning_rate, **options)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.beta_3 = beta_3
        self.epsilon_1 = epsilon_1
        self.epsilon_2 = epsilon_2
        self.clip_threshold = clip_threshold

    def rule(self, gradient, state, hyper):
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
