"""Validation and checkpoints with all deferred rows up to date."""

from __future__ import annotations

import keras


class FlushRows(keras.callbacks.Callback):
    """Brings deferred rows up to date before each evaluation and epoch end.

    With `sparse="deferred"` a row that batches rarely touch is a bounded number of
    steps behind during `fit` (see `AdaptiveOptimizer`). With this callback it is not
    behind when `fit` validates, nor when callbacks after this one in the list see the
    end of an epoch. Training is not changed. Each flush passes over the whole
    table once.

    Works with an optimizer inside `LossScaleOptimizer` or `MultiOptimizer`, and
    leaves optimizers that have no `flush` alone.

    Example:

    >>> import keras, keras_adaptive
    >>> callbacks = [
    ...     keras_adaptive.callbacks.FlushRows(),
    ...     keras.callbacks.ModelCheckpoint("model.weights.h5", save_weights_only=True),
    ... ]
    """

    def on_test_begin(self, logs=None):
        flush(self.model.optimizer)

    def on_epoch_end(self, epoch, logs=None):
        flush(self.model.optimizer)


def flush(optimizer) -> None:
    """Flushes an optimizer, or those that it wraps."""
    if hasattr(optimizer, "flush"):
        optimizer.flush()
    inner = getattr(optimizer, "inner_optimizer", None)
    for wrapped in [inner, *getattr(optimizer, "optimizers", [])]:
        if wrapped is not None:
            flush(wrapped)
