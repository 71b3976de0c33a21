"""Lookahead."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.contract import (
    PACKAGE,
    PARAMETER,
    Interval,
    Slot,
    hyperparameter,
)
from keras_adaptive.optimizers.wrappers.base import TwoPointWrapper, constrained, write


@keras.saving.register_keras_serializable(PACKAGE)
class Lookahead(TwoPointWrapper):
    """Lookahead: slow weights that follow the weights of any optimizer.

    The optimizer moves the fast weights θ. With the slow weights φ, every k of its
    updates:

        φ ← φ + α (θ - φ)
        θ ← φ

    The state of the optimizer is kept. Gradients are taken at θ, the weights to
    evaluate are φ: `fit` ends with them in the model, and so do
    `finalize_variable_values` and `to_evaluation`. The next call of `apply` goes on
    from θ. If the optimizer keeps a moving average (`use_ema`), that is evaluated.

    When to use: around an optimizer whose path is noisy, for a copy of the weights and
        hardly any time; it makes SGD with a large rate and momentum calmer. Not where a
        schedule or a moving average calms it already. What matters: the rate of the
        optimizer in it; `sync_period` and `slow_step_size` hardly do.

    Sparse gradients go to the optimizer as they are. A synchronization is of all rows,
    so it brings deferred rows up to date first: every k updates cost a pass over the
    table.

    Raises:
        TypeError: `optimizer` is none, or an argument belongs to it.
        ValueError: `sync_period` or `slow_step_size` is outside its bounds, or
            `optimizer` is a `LossScaleOptimizer` (which goes outside).

    Example:

    >>> import keras, keras_adaptive
    >>> from keras_adaptive.optimizers import Adam, Lookahead
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(Lookahead(Adam(0.01, clipnorm=1.0), sync_period=5), "mse")

    References:

    - [Zhang et al., 2019](https://arxiv.org/abs/1907.08610)
    """

    sync_period: int = hyperparameter(
        6,
        Interval(1, whole=True),
        """k, the updates from one synchronization to the next. With gradient
        accumulation updates are counted, not calls.""",
    )
    slow_step_size: float = hyperparameter(
        0.5, Interval(0.0, 1.0, open_low=True), "α, the share of the way to θ."
    )

    slots = {"slow": Slot(PARAMETER)}
    swaps_last = True

    def _advance_from_training(self, grads, variables, apply) -> None:
        following = self.iterations + 1
        apply()
        updated = ops.equal(self.iterations, following)
        due = ops.equal(ops.mod(following, self.sync_period), 0)
        self._branch(ops.logical_and(updated, due), self._synchronize)

    def _synchronize(self) -> None:
        self.flush()
        for i, slow in self._kept.items():
            variable = self._trainable_variables[i]
            alpha = ops.convert_to_tensor(self.slow_step_size, slow.dtype)
            fast = ops.cast(variable, slow.dtype)
            value = alpha * fast + (1 - alpha) * slow
            value = constrained(variable, value)
            write(slow, value)
            write(variable, value)

    def _swap(self) -> None:
        if not getattr(self.optimizer, "use_ema", False):
            super()._swap()

    def _resume(self) -> None:
        self._swap()
