"""Validation and checkpoints at the evaluation point of an optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

Logs = dict[str, Any] | None


class EvaluateAveraged(keras.callbacks.Callback):
    """Validates and saves at the evaluation point while training at the training point.

    Some optimizers evaluate the model at another point than they train it:
    schedule-free optimizers at x, optimizers with `use_ema` at the moving average,
    optimizers with deferred rows where all rows are up to date. Without this callback
    only the end of `fit` moves the model there. With it, `fit` also validates there,
    and callbacks after this one in the list see the end of an epoch there.

    Training is the same, apart from rounding: moving a schedule-free optimizer to x and
    back rounds once, and the moving average of 16-bit weights is rounded to 16 bits.

    A checkpoint within an epoch (`ModelCheckpoint(save_freq=100)`) is saved at the
    training point. Training continues correctly from both kinds of checkpoints.

    `evaluate` and `predict` take the callback as well; afterwards the variables are
    back where they were.

    The optimizer may be inside `LossScaleOptimizer` or `MultiOptimizer`. The callback
    ignores optimizers without `to_evaluation` and `to_training`.

    Example:

    >>> import keras, keras_adaptive
    >>> callbacks = [
    ...     keras_adaptive.callbacks.EvaluateAveraged(),
    ...     keras.callbacks.ModelCheckpoint("model.weights.h5", save_weights_only=True),
    ... ]
    """

    def __init__(self) -> None:
        super().__init__()
        self._moved: list[keras.optimizers.Optimizer] = []

    def _to_evaluation(self) -> None:
        for optimizer in _movable(self.model.optimizer):
            optimizer.to_evaluation()

    def _to_training(self) -> None:
        for optimizer in _movable(self.model.optimizer):
            optimizer.to_training()

    def on_train_begin(self, logs: Logs = None) -> None:
        """Builds the optimizer and moves to the training point."""
        # A loaded state is applied at the build. On TensorFlow that is in the first
        # step, whose gradient would be taken at the evaluation point.
        model = self.model
        if model.built and not getattr(model.optimizer, "built", True):
            model.optimizer.build(model.trainable_variables)
        self._to_training()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Moves to the training point."""
        self._to_training()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Moves to the evaluation point."""
        self._to_evaluation()

    def on_test_begin(self, logs: Logs = None) -> None:
        """Moves to the evaluation point."""
        optimizers = _movable(self.model.optimizer)
        self._moved = [o for o in optimizers if not o.evaluating]
        self._to_evaluation()

    def on_test_end(self, logs: Logs = None) -> None:
        """Moves back."""
        for optimizer in self._moved:
            optimizer.to_training()

    def on_predict_begin(self, logs: Logs = None) -> None:
        """Moves to the evaluation point."""
        self.on_test_begin()

    def on_predict_end(self, logs: Logs = None) -> None:
        """Moves back."""
        self.on_test_end()


def _movable(optimizer: Any) -> Iterator[keras.optimizers.Optimizer]:
    """Yields the optimizers with an evaluation point: this one, or those inside it."""
    if hasattr(optimizer, "to_evaluation"):
        yield optimizer
        return
    inner = getattr(optimizer, "inner_optimizer", None)
    for wrapped in [inner, *getattr(optimizer, "optimizers", [])]:
        if wrapped is not None:
            yield from _movable(wrapped)
