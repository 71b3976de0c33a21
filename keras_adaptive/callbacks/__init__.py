"""Callbacks that see and steer the learning rate."""

from keras_adaptive.callbacks.flush_rows import FlushRows

__all__ = ["FlushRows"]
