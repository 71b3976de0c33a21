"""Gradient descent, with momentum."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    PACKAGE,
    Hyper,
    LearningRate,
    Slot,
    State,
    hyperparameter,
)


@keras.saving.register_keras_serializable(PACKAGE)
class SGD(AdaptiveOptimizer):
    """Gradient descent, optionally with momentum.

    With the gradient g, the velocity v, the learning rate η and the momentum μ:

        v ← μ v - η g
        w ← w + v

    With `nesterov=True` the last line is w ← w + μ v - η g. As in Keras, the velocity
    includes the learning rate, so under a schedule it keeps the old rates. Without
    momentum there is no velocity.

    When to use: as the baseline, where memory is short, and for image classification
        with convolutions, where it often generalizes best with momentum and a schedule.
        Avoid it for transformers and sparse features, whose gradients differ in scale.
        What matters: `learning_rate` and its schedule, then `momentum` (0.9).

    Sparse gradients, `"deferred"`: after d steps with zero gradient, v has decayed by
    μᵈ, and the weights have moved by v Σ μʲ, j = 1, ..., d (times μ with
    `nesterov=True`). This is exact. Without momentum nothing moves.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.SGD(0.1, momentum=0.9), "mse")

    References:

    - [Polyak, 1964](https://doi.org/10.1016/0041-5553%2864%2990137-5) for `momentum`
    - [Sutskever et al., 2013](
      https://proceedings.mlr.press/v28/sutskever13.html) for `nesterov`
    """

    learning_rate: LearningRate = hyperparameter(default=0.01)
    momentum: float = hyperparameter(
        DECAY_RATE, "μ, decay rate of the velocity.", default=0.0
    )
    nesterov: bool = hyperparameter(doc="Uses Nesterov's momentum.", default=False)

    @property
    def slots(self) -> dict[str, Slot]:
        return {"velocity": Slot()} if self.momentum > 0 else {}

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        step = hyper.learning_rate * gradient
        if self.momentum == 0:
            return step, {}
        v = hyper.momentum * state["velocity"] - step
        step = step - hyper.momentum * v if self.nesterov else -v
        return step, {"velocity": v}

    def catch_up(
        self, state: State, skipped_steps: Any, hyper: Hyper
    ) -> tuple[Any, State]:
        v = state["velocity"]
        return -v, {"velocity": ops.power(hyper.momentum, skipped_steps) * v}

    def drift(self, hyper: Hyper) -> tuple[Any, Any] | None:
        if self.momentum == 0:
            return None
        return hyper.momentum if self.nesterov else 1.0, hyper.momentum

    def stands_still(self) -> bool:
        return self.momentum == 0
