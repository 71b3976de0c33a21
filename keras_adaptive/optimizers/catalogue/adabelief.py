"""AdaBelief."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.moments import averaged, unbiased
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    PACKAGE,
    LearningRate,
    Slot,
    hyperparameter,
)


@keras.saving.register_keras_serializable(PACKAGE)
class AdaBelief(AdaptiveOptimizer):
    """AdaBelief: Adam that divides by how far gradients are from their mean.

    With the gradient g at step t, the momentum m, the variance s and the learning
    rate η:

        m ← β₁ m + (1 - β₁) g
        s ← β₂ s + (1 - β₂) (g - m)² + ε
        w ← w - η / (1 - β₁ᵗ) · m / (√(s / (1 - β₂ᵗ)) + ε)

    Where gradients are as expected (g ≈ m) steps are long. With `amsgrad=True` the
    largest s so far takes the place of s in the last line.

    When to use: convolutional networks and GANs, where the authors report it ahead of
        Adam; elsewhere the two are about the same. Not with an `epsilon` copied from
        Adam's: it is inside the root too and adds up, so that 1e-8 acts as 3e-3 would
        in Adam. What matters: `learning_rate`, then `epsilon`.

    Sparse gradients are `"lazy"`. There is no closed form: while the gradient is zero
    s takes up m², at a pace of its own in each entry, and the direction of
    m / √s turns.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.AdaBelief(0.01), "mse")

    References:

    - [Zhuang et al., 2020](https://arxiv.org/abs/2010.07468)
    - [Reddi et al., 2018](https://arxiv.org/abs/1904.09237) for `amsgrad`
    """

    learning_rate: LearningRate = hyperparameter(0.001)
    beta_1: float = hyperparameter(0.9, DECAY_RATE, "Decay rate of the momentum.")
    beta_2: float = hyperparameter(0.999, DECAY_RATE, "Decay rate of the variance.")
    epsilon: float = hyperparameter(
        1e-16,
        NON_NEGATIVE,
        """Keeps the denominator away from zero. It is added to s at every step,
        so that s is at least ε / (1 - β₂) in the long run, and once more
        beside the root.""",
    )
    amsgrad: bool = hyperparameter(False, doc="Use the largest variance so far.")
    row_wise: bool = hyperparameter(
        False, doc="Keep one variance a row, of mean((g - m)²)."
    )

    @property
    def slots(self):
        slots = {"momentum": Slot(), "variance": Slot(row_wise=self.row_wise)}
        if self.amsgrad:
            slots["variance_hat"] = Slot(row_wise=self.row_wise)
        return slots

    def rule(self, gradient, state, hyper):
        m, s = state["momentum"], state["variance"]
        m = averaged(m, gradient, hyper.beta_1)
        s = averaged(s, self.squared(gradient - m), hyper.beta_2) + hyper.epsilon
        new = {"momentum": m, "variance": s}
        if self.amsgrad:
            s = new["variance_hat"] = ops.maximum(state["variance_hat"], s)
        root = ops.sqrt(unbiased(s, hyper.beta_2, hyper.step))
        direction = unbiased(m, hyper.beta_1, hyper.step) / (root + hyper.epsilon)
        return hyper.learning_rate * direction, new
