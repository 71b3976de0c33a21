"""Lookahead."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.contract import (
    PACKAGE,
    PARAMETER,
    Interval,
    Slot,
    hyperparameter,
)
from keras_adaptive.optimizers.contract.override import override
from keras_adaptive.optimizers.wrappers.two_points import TwoPointWrapper
from keras_adaptive.optimizers.wrappers.weights import constrained, write


@keras.saving.register_keras_serializable(PACKAGE)
class Lookahead(TwoPointWrapper):
    """Lookahead: moves slow weights after the weights of any optimizer.

    The optimizer moves the fast weights θ. After every k updates, with the slow weights
    φ:

        φ ← φ + α (θ - φ)
        θ ← φ

    Variables without a gradient, such as frozen ones, are left out of it. The state of
    the optimizer is kept. Gradients are computed at θ, and φ is the
    evaluation point: after `fit`, `finalize_variable_values` and `to_evaluation` the
    model has the weights φ. The next call of `apply` continues from θ. If the optimizer
    keeps a moving average (`use_ema`), this average is the evaluation point instead.

    When to use: around an optimizer whose path is noisy, such as SGD with a large
        learning rate and momentum. It costs a copy of the weights and hardly any time.
        Avoid it where a schedule or a moving average already reduces the noise. What
        matters: the learning rate of the wrapped optimizer; `sync_period` and
        `slow_step_size` hardly matter.

    Sparse gradients are passed to the optimizer as they are. A synchronization changes
    all rows, so it brings deferred rows up to date first. This costs one pass over the
    table every k updates.

    Raises:
        TypeError: `optimizer` is no optimizer, or an argument belongs to it.
        ValueError: `sync_period` or `slow_step_size` is outside its constraint, or
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
        Interval(1, whole=True),
        """k, the number of updates from one synchronization to the next. With gradient
        accumulation, updates are counted, not calls.""",
        default=6,
    )
    slow_step_size: float = hyperparameter(
        Interval(0.0, 1.0, open_low=True), "α, the step of φ towards θ.", default=0.5
    )

    slots = {"slow": Slot(PARAMETER)}
    swaps_last = True

    @override
    def _advance_from_training(
        self, grads: list[Any], variables: list[Any], apply: Callable[[], None]
    ) -> None:
        following = self.iterations + 1
        apply()
        updated = ops.equal(self.iterations, following)
        due = ops.equal(ops.mod(following, self.sync_period), 0)
        present = self._with_gradient(grads, variables) & self._kept.keys()

        def synchronize() -> None:
            self._synchronize(present)

        self._branch(ops.logical_and(updated, due), synchronize)

    def _synchronize(self, indices: Iterable[int]) -> None:
        """Moves the slow weights of variables, and sets the fast ones to them."""
        self.flush()
        for i in sorted(indices):
            slow = self._kept[i]
            variable = self._trainable_variables[i]
            alpha = ops.convert_to_tensor(self.slow_step_size, slow.dtype)
            fast = ops.cast(variable, slow.dtype)
            value = alpha * fast + (1 - alpha) * slow
            value = constrained(variable, value)
            write(slow, value)
            write(variable, value)

    @override
    def _swap(self) -> None:
        if not getattr(self.optimizer, "use_ema", False):
            super()._swap()

    @override
    def _resume(self) -> None:
        self._swap()

    @override
    def _restart(self) -> None:
        self._copy_again()

    @override
    def mark_again(self, same: Any) -> None:
        """Takes weights that a wrapper has rounded for its own; see `marks`."""
        super().mark_again(same)
        if getattr(self.optimizer, "use_ema", False):
            self._mark_parts_again(same)
