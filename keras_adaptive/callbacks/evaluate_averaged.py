"""Validation and checkpoints at the evaluation point of an optimizer."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
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

    It finds `model.optimizer` and the optimizers that are attributes of the model, also
    in lists and dictionaries, inside `LossScaleOptimizer` or `MultiOptimizer`. At the
    end of `fit` it moves those that Keras does not know of, such as the two of a GAN.
    It ignores optimizers without `to_evaluation` and `to_training`.

    Where somebody sets the weights at the evaluation point, as
    `EarlyStopping(restore_best_weights=True)` does at the end of `fit`, training goes
    on from these weights.

    After a `KeyboardInterrupt` Keras calls no callback. Call
    `model.optimizer.to_evaluation()` then.

    Args:
        optimizers: The optimizers to move, where the callback cannot find them.

    Warns:
        UserWarning: No optimizer that it can find has an evaluation point. It does not
            warn of those that it is given.

    Example:

    >>> import keras, keras_adaptive
    >>> callbacks = [
    ...     keras_adaptive.callbacks.EvaluateAveraged(),
    ...     keras.callbacks.ModelCheckpoint("model.weights.h5", save_weights_only=True),
    ... ]
    """

    def __init__(
        self, optimizers: Iterable[keras.optimizers.Optimizer] | None = None
    ) -> None:
        super().__init__()
        self._given = None if optimizers is None else list(optimizers)
        self._moved: list[keras.optimizers.Optimizer] = []

    def _optimizers(self) -> list[keras.optimizers.Optimizer]:
        """Returns the optimizers to move, each once."""
        found = self._given
        if found is None:
            model = self.model
            attributes = [getattr(model, "optimizer", None), vars(model)]
            found = [
                o
                for o in _plain(attributes)
                if isinstance(o, keras.optimizers.Optimizer)
            ]
        movable = [
            inner for optimizer in found for inner in movable_optimizers(optimizer)
        ]
        return list({id(optimizer): optimizer for optimizer in movable}.values())

    def _to_evaluation(self) -> None:
        for optimizer in self._optimizers():
            optimizer.to_evaluation()

    def _to_training(self) -> None:
        for optimizer in self._optimizers():
            optimizer.to_training()

    def on_train_begin(self, logs: Logs = None) -> None:
        """Builds the optimizer and moves to the training point."""
        # A loaded state is applied at the build. On TensorFlow that is in the first
        # step, whose gradient would be taken at the evaluation point.
        model = self.model
        if model.built and not getattr(model.optimizer, "built", True):
            model.optimizer.build(model.trainable_variables)
        if self._given is None and not self._optimizers():
            warnings.warn(
                "EvaluateAveraged found no optimizer with an evaluation point, and "
                "changes nothing. If the model keeps its optimizers elsewhere, pass "
                "`EvaluateAveraged(optimizers=[...])`.",
                stacklevel=2,
            )
        self._to_training()

    def on_train_end(self, logs: Logs = None) -> None:
        """Moves the optimizers that Keras does not know of to the evaluation point."""
        known = {
            id(o) for o in movable_optimizers(getattr(self.model, "optimizer", None))
        }
        for optimizer in self._optimizers():
            if id(optimizer) not in known and optimizer.built:
                optimizer.finalize_variable_values(optimizer._trainable_variables)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Moves to the training point."""
        self._to_training()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Moves to the evaluation point."""
        self._to_evaluation()

    def on_test_begin(self, logs: Logs = None) -> None:
        """Moves to the evaluation point."""
        self._moved = [o for o in self._optimizers() if not o.evaluating]
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


def _plain(value: Any, depth: int = 5) -> list[Any]:
    """Returns what a value holds, through lists and dictionaries."""
    if depth and isinstance(value, dict):
        value = list(value.values())
    if depth and isinstance(value, (list, tuple)):
        return [inner for v in value for inner in _plain(v, depth - 1)]
    return [value]


def movable_optimizers(optimizer: Any) -> Iterator[keras.optimizers.Optimizer]:
    """Yields the optimizers with an evaluation point: this one, or those inside it."""
    if hasattr(optimizer, "to_evaluation"):
        yield optimizer
        return
    inner = getattr(optimizer, "inner_optimizer", None)
    for wrapped in [inner, *getattr(optimizer, "optimizers", [])]:
        if wrapped is not None:
            yield from movable_optimizers(wrapped)
