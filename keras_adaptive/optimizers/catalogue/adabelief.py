"""AdaBelief."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.moments import averaged, unbiased
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


@keras.saving.register_keras_serializable(PACKAGE)
class AdaBelief(AdaptiveOptimizer):
    """AdaBelief: Adam that divides by the distance of gradients from their mean.

    With the gradient g at step t, the momentum m, the variance s and the learning
    rate η:

        m ← β₁ m + (1 - β₁) g
        s ← β₂ s + (1 - β₂) (g - m)² + ε
        w ← w - η / (1 - β₁ᵗ) · m / (√(s / (1 - β₂ᵗ)) + ε)

    Steps are long where the gradients are as expected (g ≈ m). With `amsgrad=True` the
    largest s so far replaces s in the last line. ε keeps the denominator away from
    zero. Since s grows by ε at every step, it is at least ε / (1 - β₂) in the long run.

    When to use: convolutional networks and GANs, where the authors report better
        results than Adam's; elsewhere the two are about the same. Not with an `epsilon`
        copied from Adam: ε is inside the root too and adds up, so that 1e-8 acts like
        3e-3 in Adam. What matters: `learning_rate`, then `epsilon`.

    Sparse gradients are `"lazy"`. There is no closed form: while the gradient is zero,
    s takes up m² at a different pace in each entry, and the direction of m / √s turns.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.AdaBelief(0.01), "mse")

    References:

    - [Zhuang et al., 2020](https://arxiv.org/abs/2010.07468)
    - [Reddi et al., 2018](https://arxiv.org/abs/1904.09237) for `amsgrad`
    """

    learning_rate: LearningRate = hyperparameter(default=0.001)
    beta_1: float = hyperparameter(
        DECAY_RATE, "β₁, the momentum's decay rate.", default=0.9
    )
    beta_2: float = hyperparameter(
        DECAY_RATE, "β₂, the variance's decay rate.", default=0.999
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE,
        "ε, added to s at every step and again to its root.",
        default=1e-16,
    )
    amsgrad: bool = hyperparameter(
        doc="Uses the largest variance so far.", default=False
    )
    row_wise: bool = hyperparameter(
        doc="Keeps one variance a row, of mean((g - m)²).", default=False
    )

    @property
    def slots(self) -> dict[str, Slot]:
        slots = {"momentum": Slot(), "variance": Slot(row_wise=self.row_wise)}
        if self.amsgrad:
            slots["variance_hat"] = Slot(row_wise=self.row_wise)
        return slots

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        m, s = state["momentum"], state["variance"]
        m = averaged(m, gradient, hyper.beta_1)
        s = averaged(s, self.squared(gradient - m), hyper.beta_2) + hyper.epsilon
        new = {"momentum": m, "variance": s}
        if self.amsgrad:
            s = new["variance_hat"] = ops.maximum(state["variance_hat"], s)
        root = ops.sqrt(unbiased(s, hyper.beta_2, hyper.step))
        direction = unbiased(m, hyper.beta_1, hyper.step) / (root + hyper.epsilon)
        return hyper.learning_rate * direction, new
