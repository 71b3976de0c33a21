"""Optimizers with adaptive learning rates."""

from keras_adaptive.optimizers.adagrad import Adagrad
from keras_adaptive.optimizers.adam import Adam, AdamW
from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.bounds import (
    DECAY_RATE,
    NON_NEGATIVE,
    POSITIVE,
    Interval,
)
from keras_adaptive.optimizers.deferred import standing_still
from keras_adaptive.optimizers.rmsprop import RMSprop
from keras_adaptive.optimizers.rule import Hyper, Slot

__all__ = [
    "DECAY_RATE",
    "NON_NEGATIVE",
    "POSITIVE",
    "Adagrad",
    "Adam",
    "AdamW",
    "AdaptiveOptimizer",
    "Hyper",
    "Interval",
    "RMSprop",
    "Slot",
    "standing_still",
]
