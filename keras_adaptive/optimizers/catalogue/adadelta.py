"""Adadelta."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
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
class Adadelta(AdaptiveOptimizer):
    """Adadelta: steps in the units of the weights.

    With the gradient g, the step Δ before the learning rate η, and the running means
    E[g²] and E[Δ²] of their squares:

        E[g²] ← ρ E[g²] + (1 - ρ) g²
        Δ     = g √(E[Δ²] + ε) / √(E[g²] + ε)
        E[Δ²] ← ρ E[Δ²] + (1 - ρ) Δ²
        w     ← w - η Δ

    The first steps are about √ε long, and ε decides how fast they grow. The paper has
    no learning rate, which is η = 1. The default of 0.001 is that of Keras, and slow.

    When to use: rarely: older recipes that ask for it, or problems where no rate can be
        tuned and slow progress will do. Otherwise Adam. What matters: `learning_rate`
        (begin with 1.0) and `epsilon`, which is the size of the first steps.

    Sparse gradients, `"deferred"`: after d steps with zero gradient both means have
    decayed by ρᵈ, and nothing has moved. This is exact.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.Adadelta(1.0, rho=0.9), "mse")

    References:

    - [Zeiler, 2012](https://arxiv.org/abs/1212.5701)
    """

    learning_rate: LearningRate = hyperparameter(default=0.001)
    rho: float = hyperparameter(
        DECAY_RATE, "ρ, the decay rate of the means.", default=0.95
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE,
        "ε, starts the steps and bounds the denominator from below.",
        default=1e-7,
    )
    row_wise: bool = hyperparameter(
        doc="""Keeps one number of each kind a row, of mean(g²) and mean(Δ²). The state
        of a table shrinks by its width.""",
        default=False,
    )

    @property
    def slots(self) -> dict[str, Slot]:
        slot = Slot(row_wise=self.row_wise)
        return {"squared_gradient": slot, "squared_step": slot}

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        gradients, steps = state["squared_gradient"], state["squared_step"]
        gradients = _mean(gradients, self.squared(gradient), hyper.rho)
        above = ops.sqrt(steps + hyper.epsilon)
        below = ops.sqrt(gradients + hyper.epsilon)
        step = gradient * above / below
        steps = _mean(steps, self.squared(step), hyper.rho)
        new = {"squared_gradient": gradients, "squared_step": steps}
        return hyper.learning_rate * step, new

    def catch_up(
        self, state: State, skipped_steps: Any, hyper: Hyper
    ) -> tuple[None, State]:
        decay = ops.power(hyper.rho, skipped_steps)
        return None, {name: decay * value for name, value in state.items()}


def _mean(mean: Any, squares: Any, rho: Any) -> Any:
    return rho * mean + (1 - rho) * squares
