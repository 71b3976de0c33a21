"""ADOPT."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.moments import averaged
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    PACKAGE,
    POSITIVE,
    LearningRate,
    Slot,
    hyperparameter,
)


@keras.saving.register_keras_serializable(PACKAGE)
class ADOPT(AdaptiveOptimizer):
    """ADOPT: Adam that normalises by the gradients before the present one.

    With the gradient g at step t, the velocity v, the momentum m and the learning
    rate η, the first call only sets v ← g²; afterwards, with c = (t - 1)^¼:

        m ← β₁ m + (1 - β₁) clip(g / max(√v, ε), -c, c)
        v ← β₂ v + (1 - β₂) g²
        w ← w - η m

    As v does not contain g, it converges with any β₂, which Adam need not. The clipping
    is that of the authors' second version.

    When to use: in place of Adam where training is unstable or `beta_2` cannot be
        tuned. Not for features that come rarely, nor for layers whose first gradient
        is zero: their v begins at zero, and the first step is one of the clipped sign.
        What matters: `learning_rate`, then `weight_decay`.

    Sparse gradients, `"deferred"`: after d steps with zero gradient v and m have
    decayed by β₂ᵈ and β₁ᵈ, and the weights have moved by -m Σⱼ ηₜ₊ⱼ β₁ʲ. Exact. As
    in a dense update, only the rows of the first call have a v to begin with; the first
    gradient of any other row is divided by ε, and counts as ±(t - 1)^¼.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.ADOPT(0.01), "mse")

    References:

    - [Taniguchi et al., 2024](https://arxiv.org/abs/2411.02853)
    """

    learning_rate: LearningRate = hyperparameter(0.001)
    beta_1: float = hyperparameter(0.9, DECAY_RATE, "Decay rate of the momentum.")
    beta_2: float = hyperparameter(0.9999, DECAY_RATE, "Decay rate of the velocity.")
    epsilon: float = hyperparameter(
        1e-6,
        POSITIVE,
        """The smallest denominator, above 0: an entry whose first gradient is
        zero has a v of zero.""",
    )
    row_wise: bool = hyperparameter(False, doc="Keep one velocity a row, of mean(g²).")

    @property
    def slots(self):
        return {"momentum": Slot(), "velocity": Slot(row_wise=self.row_wise)}

    def rule(self, gradient, state, hyper):
        m, v = state["momentum"], state["velocity"]
        normalised = gradient / ops.maximum(ops.sqrt(v), hyper.epsilon)
        # Zero in the first call, so that nothing moves.
        limit = ops.power(hyper.step - 1, hyper.number(0.25))
        m = averaged(m, ops.clip(normalised, -limit, limit), hyper.beta_1)
        beta_2 = ops.where(hyper.step > 1, hyper.beta_2, ops.zeros_like(limit))
        v = averaged(v, self.squared(gradient), beta_2)
        return hyper.learning_rate * m, {"momentum": m, "velocity": v}

    def catch_up(self, state, skipped_steps, hyper):
        m, v = state["momentum"], state["velocity"]
        return m, {
            "momentum": ops.power(hyper.beta_1, skipped_steps) * m,
            "velocity": ops.power(hyper.beta_2, skipped_steps) * v,
        }

    def drift(self, hyper):
        return hyper.learning_rate, hyper.beta_1
