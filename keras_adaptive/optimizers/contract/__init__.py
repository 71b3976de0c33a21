"""Everything that the author of an optimizer may use."""

from keras_adaptive.optimizers.contract.algorithm import (
    PACKAGE,
    Algorithm,
    State,
    standing_still,
)
from keras_adaptive.optimizers.contract.choice import choice
from keras_adaptive.optimizers.contract.constraints import (
    DECAY_RATE,
    NON_NEGATIVE,
    NON_NEGATIVE_OR_NONE,
    POSITIVE,
    POSITIVE_OR_NONE,
    Interval,
)
from keras_adaptive.optimizers.contract.hyper import Hyper
from keras_adaptive.optimizers.contract.hyperparameters import Declared, hyperparameter
from keras_adaptive.optimizers.contract.options import LearningRate
from keras_adaptive.optimizers.contract.quotient import Quotient
from keras_adaptive.optimizers.contract.slot import PARAMETER, Slot

__all__ = [
    "DECAY_RATE",
    "NON_NEGATIVE",
    "NON_NEGATIVE_OR_NONE",
    "PACKAGE",
    "PARAMETER",
    "POSITIVE",
    "POSITIVE_OR_NONE",
    "Algorithm",
    "Declared",
    "Hyper",
    "Interval",
    "LearningRate",
    "Quotient",
    "Slot",
    "State",
    "choice",
    "hyperparameter",
    "standing_still",
]
