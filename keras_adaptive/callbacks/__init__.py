"""Callbacks that see and steer the learning rate."""

from keras_adaptive.callbacks.evaluate_averaged import EvaluateAveraged

__all__ = ["EvaluateAveraged"]
