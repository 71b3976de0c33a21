"""Adaptive learning rates for Keras 3: right, fast, and proven on your own data."""

from keras_adaptive import callbacks, layers, optimizers

__version__ = "0.1.0"

__all__ = ["callbacks", "layers", "optimizers"]
