"""RMSprop."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    PACKAGE,
    LearningRate,
    Slot,
    hyperparameter,
)


@keras.saving.register_keras_serializable(PACKAGE)
class RMSprop(AdaptiveOptimizer):
    """RMSprop: the gradient divided by a running root mean square of itself.

    With the gradient g, the velocity v, the learning rate η and the momentum μ:

        v ← ρ v + (1 - ρ) g²
        m ← μ m + η g / √(v + ε)
        w ← w - m

    With `centered=True` the mean gradient ḡ ← ρ ḡ + (1 - ρ) g is kept too, and the
    root is √(v - ḡ² + ε).

    When to use: recurrent networks and reinforcement learning, where recipes are
        written for it; otherwise Adam has its merits and a bias correction. What
        matters: `learning_rate`, then `rho` and, where gradients are small, `epsilon`.

    Sparse gradients, `"deferred"`: after d steps with zero gradient v and ḡ have
    decayed by ρᵈ and m by μᵈ, and the weights have moved by -m Σ μʲ, j = 1, ..., d.
    Exact; without momentum nothing moves.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.RMSprop(0.01, centered=True), "mse")

    References:

    - [Hinton, 2012](
      http://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf)
    - [Graves, 2013](https://arxiv.org/abs/1308.0850) for `centered`
    """

    learning_rate: LearningRate = hyperparameter(0.001)
    rho: float = hyperparameter(0.9, DECAY_RATE, "Decay rate of the averages.")
    momentum: float = hyperparameter(0.0, DECAY_RATE, "μ.")
    epsilon: float = hyperparameter(
        1e-7,
        NON_NEGATIVE,
        "Keeps the denominator away from zero; inside the root, as in Keras.",
    )
    centered: bool = hyperparameter(
        False, doc="Divide by the deviation instead of the root mean square."
    )
    row_wise: bool = hyperparameter(False, doc="Keep one velocity a row, of mean(g²).")

    @property
    def slots(self):
        slots = {"velocity": Slot(row_wise=self.row_wise)}
        if self.momentum > 0:
            slots["momentum"] = Slot()
        if self.centered:
            slots["average_gradient"] = Slot()
        return slots

    def rule(self, gradient, state, hyper):
        rho = hyper.rho
        new = {"velocity": rho * state["velocity"] + (1 - rho) * self.squared(gradient)}
        variance = new["velocity"]
        if self.centered:
            mean = rho * state["average_gradient"] + (1 - rho) * gradient
            new["average_gradient"] = mean
            variance = variance - self.squared(mean)
        step = hyper.learning_rate * gradient / ops.sqrt(variance + hyper.epsilon)
        if self.momentum > 0:
            step = new["momentum"] = hyper.momentum * state["momentum"] + step
        return step, new

    def catch_up(self, state, skipped_steps, hyper):
        decay = ops.power(hyper.rho, skipped_steps)
        new = {name: decay * value for name, value in state.items()}
        if self.momentum == 0:
            return None, new
        new["momentum"] = ops.power(hyper.momentum, skipped_steps) * state["momentum"]
        return state["momentum"], new

    def drift(self, hyper):
        return (1.0, hyper.momentum) if self.momentum > 0 else None
