"""The callback that validates and saves a model at its evaluation point."""

from keras_adaptive.callbacks.evaluate_averaged import EvaluateAveraged

__all__ = ["EvaluateAveraged"]
