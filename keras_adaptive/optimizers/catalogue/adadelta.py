"""Adadelta."""

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
class Adadelta(AdaptiveOptimizer):
    """Adadelta: steps in the units of the weights.

    With the gradient g, the running means E[g²] and E[Δ²] of the squares of the
    gradients and of the steps before the learning rate η:

        E[g²] ← ρ E[g²] + (1 - ρ) g²
        Δ     = g √(E[Δ²] + ε) / √(E[g²] + ε)
        E[Δ²] ← ρ E[Δ²] + (1 - ρ) Δ²
        w     ← w - η Δ

    The first steps are about √ε long, and ε decides how fast they grow.

    When to use: rarely: where an older recipe asks for it, or no rate can be tuned and
        slow progress will do. Otherwise Adam. What matters: `learning_rate` (begin
        with 1.0) and `epsilon`, which is the size of the first steps.

    Sparse gradients, `"deferred"`: after d steps with zero gradient both means have
    decayed by ρᵈ, and nothing has moved. Exact.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.Adadelta(1.0, rho=0.9), "mse")

    References:

    - [Zeiler, 2012](https://arxiv.org/abs/1212.5701)
    """

    learning_rate: LearningRate = hyperparameter(
        0.001,
        doc="""The paper has none, that is `1.0`; defaults to `0.001`, as in Keras,
        which is slow.""",
    )
    rho: float = hyperparameter(0.95, DECAY_RATE, "Decay rate of the averages.")
    epsilon: float = hyperparameter(
        1e-7, NON_NEGATIVE, "Starts the steps and keeps the denominator away from zero."
    )
    row_wise: bool = hyperparameter(
        False,
        doc="""Keep one number of each kind a row, of mean(g²) and mean(Δ²): the
        state of a table shrinks by its width.""",
    )

    @property
    def slots(self):
        slot = Slot(row_wise=self.row_wise)
        return {"squared_gradient": slot, "squared_step": slot}

    def rule(self, gradient, state, hyper):
        def mean(name, values):
            return hyper.rho * state[name] + (1 - hyper.rho) * self.squared(values)

        squared_gradient = mean("squared_gradient", gradient)
        above = ops.sqrt(state["squared_step"] + hyper.epsilon)
        below = ops.sqrt(squared_gradient + hyper.epsilon)
        step = gradient * above / below
        return hyper.learning_rate * step, {
            "squared_gradient": squared_gradient,
            "squared_step": mean("squared_step", step),
        }

    def catch_up(self, state, skipped_steps, hyper):
        decay = ops.power(hyper.rho, skipped_steps)
        return None, {name: decay * value for name, value in state.items()}
