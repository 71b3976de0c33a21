"""Validation and checkpoints at the point at which to evaluate."""

from __future__ import annotations

from collections.abc import Iterator

import keras


class EvaluateAveraged(keras.callbacks.Callback):
    """Evaluates and saves at the evaluation point, trains at the other.

    Some optimizers are evaluated at another point than they train at: schedule-free
    ones at x, those with `use_ema` at the moving average, those with deferred rows
    where all of these are up to date. `fit` ends there without this callback;
    with it, `fit` also validates there, and callbacks after this one in the list see
    the end of an epoch there. Training is not changed, except that the way to x of a
    schedule-free optimizer and back rounds once, and that a moving average of 16-bit
    weights is rounded to 16 bits on the way.

    What is saved within an epoch (`ModelCheckpoint(save_freq=100)`) is saved at the
    training point. Both kinds of checkpoints go on training from there.

    It may also be given to `evaluate` and `predict` between two steps of training; the
    variables are afterwards where they were.

    Works with an optimizer inside `LossScaleOptimizer` or `MultiOptimizer`, and
    leaves alone optimizers that have no `to_evaluation` and `to_training`.

    Example:

    >>> import keras, keras_adaptive
    >>> callbacks = [
    ...     keras_adaptive.callbacks.EvaluateAveraged(),
    ...     keras.callbacks.ModelCheckpoint("model.weights.h5", save_weights_only=True),
    ... ]
    """

    def __init__(self):
        super().__init__()
        self._moved: list[keras.optimizers.Optimizer] = []

    def _to_evaluation(self) -> None:
        for optimizer in _movable(self.model.optimizer):
            optimizer.to_evaluation()

    def _to_training(self) -> None:
        for optimizer in _movable(self.model.optimizer):
            optimizer.to_training()

    def on_train_begin(self, logs=None):
        # A state that was loaded waits for the build, which TensorFlow leaves to the
        # first step: too late to take its gradient at the training point.
        model = self.model
        if model.built and not getattr(model.optimizer, "built", True):
            model.optimizer.build(model.trainable_variables)
        self._to_training()

    def on_epoch_begin(self, epoch, logs=None):
        self._to_training()

    def on_epoch_end(self, epoch, logs=None):
        self._to_evaluation()

    def on_test_begin(self, logs=None):
        optimizers = _movable(self.model.optimizer)
        self._moved = [o for o in optimizers if not o.evaluating]
        self._to_evaluation()

    def on_test_end(self, logs=None):
        for optimizer in self._moved:
            optimizer.to_training()

    def on_predict_begin(self, logs=None):
        self.on_test_begin()

    def on_predict_end(self, logs=None):
        self.on_test_end()


def _movable(optimizer) -> Iterator[keras.optimizers.Optimizer]:
    """The optimizers that have an evaluation point: this one, or those inside."""
    if hasattr(optimizer, "to_evaluation"):
        yield optimizer
        return
    inner = getattr(optimizer, "inner_optimizer", None)
    for wrapped in [inner, *getattr(optimizer, "optimizers", [])]:
        if wrapped is not None:
            yield from _movable(wrapped)
