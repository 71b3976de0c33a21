"""RMSprop."""

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
class RMSprop(AdaptiveOptimizer):
    """RMSprop: divides the gradient by its running root mean square.

    With the gradient g, the velocity v, the learning rate η and the momentum μ:

        v ← ρ v + (1 - ρ) g²
        m ← μ m + η g / √(v + ε)
        w ← w - m

    As in Keras, ε is inside the root. With `centered=True` the optimizer also keeps the
    mean gradient ḡ ← ρ ḡ + (1 - ρ) g, and the root is √(v - ḡ² + ε).

    When to use: for recurrent networks and reinforcement learning, where recipes are
        written for it. Avoid it elsewhere: Adam has its merits and a bias correction.
        What matters: `learning_rate`, then `rho` and, where gradients are small,
        `epsilon`.

    Sparse gradients, `"deferred"`: after d steps with zero gradient, v and ḡ have
    decayed by ρᵈ and m by μᵈ, and the weights have moved by -m Σ μʲ, j = 1, ..., d.
    This is exact. Without momentum nothing moves.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.RMSprop(0.01, centered=True), "mse")

    References:

    - [Hinton, 2012](
      http://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf)
    - [Graves, 2013](https://arxiv.org/abs/1308.0850) for `centered`
    """

    learning_rate: LearningRate = hyperparameter(default=0.001)
    rho: float = hyperparameter(
        DECAY_RATE, "ρ, decay rate of the averages.", default=0.9
    )
    momentum: float = hyperparameter(
        DECAY_RATE, "μ, decay rate of the momentum.", default=0.0
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE, "ε, added inside the root.", default=1e-7
    )
    centered: bool = hyperparameter(
        doc="Divides by the standard deviation.", default=False
    )
    row_wise: bool = hyperparameter(
        doc="Keeps one velocity a row, of mean(g²).", default=False
    )

    @property
    def slots(self) -> dict[str, Slot]:
        momentum = {"momentum": Slot()} if self.momentum > 0 else {}
        mean = {"average_gradient": Slot()} if self.centered else {}
        return {"velocity": Slot(row_wise=self.row_wise), **momentum, **mean}

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        square = self.squared(gradient)
        new = _averages(state, hyper, velocity=square, average_gradient=gradient)
        variance = new["velocity"]
        if self.centered:
            variance = variance - self.squared(new["average_gradient"])
        step = hyper.learning_rate * gradient / ops.sqrt(variance + hyper.epsilon)
        if self.momentum > 0:
            step = new["momentum"] = hyper.momentum * state["momentum"] + step
        return step, new

    def catch_up(
        self, state: State, skipped_steps: Any, hyper: Hyper
    ) -> tuple[Any, State]:
        new = {n: _decay(n, skipped_steps, hyper) * v for n, v in state.items()}
        return state.get("momentum"), new

    def drift(self, hyper: Hyper) -> tuple[Any, Any] | None:
        return (1.0, hyper.momentum) if self.momentum > 0 else None


def _averages(state: State, hyper: Hyper, **values: Any) -> State:
    """Returns the running means that the state has, after one more value of each."""
    rho = hyper.rho
    return {n: rho * state[n] + (1 - rho) * v for n, v in values.items() if n in state}


def _decay(slot: str, skipped_steps: Any, hyper: Hyper) -> Any:
    """Returns the factor by which a slot decays over the skipped steps."""
    rate = hyper.momentum if slot == "momentum" else hyper.rho
    return ops.power(rate, skipped_steps)
