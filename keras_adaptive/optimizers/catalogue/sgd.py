"""Gradient descent, with momentum."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    PACKAGE,
    LearningRate,
    Slot,
    hyperparameter,
)


@keras.saving.register_keras_serializable(PACKAGE)
class SGD(AdaptiveOptimizer):
    """Gradient descent, with momentum.

    With the gradient g, the velocity v, the learning rate η and the momentum μ:

        v ← μ v - η g
        w ← w + v

    With `nesterov=True` the last line is w ← w + μ v - η g. The velocity has the
    learning rate inside, as in Keras: under a schedule it carries the old rates on.
    Without momentum there is no velocity.

    When to use: as the baseline; image classification with convolutions, where with
        momentum and a schedule it often generalizes best, and where memory is short.
        Not for transformers or sparse features, whose gradients differ in scale. What
        matters: `learning_rate` and its schedule, then `momentum` (0.9).

    Sparse gradients, `"deferred"`: after d steps with zero gradient v has decayed by
    μᵈ, and the weights have moved by v Σ μʲ, j = 1, ..., d (with `nesterov=True` by μ
    times that). Exact; without momentum nothing moves.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.SGD(0.1, momentum=0.9), "mse")

    References:

    - [Polyak, 1964](https://doi.org/10.1016/0041-5553%2864%2990137-5) for `momentum`
    - [Sutskever et al., 2013](
      https://proceedings.mlr.press/v28/sutskever13.html) for `nesterov`
    """

    learning_rate: LearningRate = hyperparameter(0.01)
    momentum: float = hyperparameter(0.0, DECAY_RATE, "μ.")
    nesterov: bool = hyperparameter(False, doc="Use Nesterov's momentum.")

    @property
    def slots(self):
        return {"velocity": Slot()} if self.momentum > 0 else {}

    def rule(self, gradient, state, hyper):
        step = hyper.learning_rate * gradient
        if self.momentum == 0:
            return step, {}
        v = hyper.momentum * state["velocity"] - step
        step = step - hyper.momentum * v if self.nesterov else -v
        return step, {"velocity": v}

    def catch_up(self, state, skipped_steps, hyper):
        v = state["velocity"]
        return -v, {"velocity": ops.power(hyper.momentum, skipped_steps) * v}

    def drift(self, hyper):
        if self.momentum == 0:
            return None
        return hyper.momentum if self.nesterov else 1.0, hyper.momentum

    def stands_still(self):
        return self.momentum == 0
