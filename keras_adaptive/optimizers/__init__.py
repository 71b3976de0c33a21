"""Optimizers with adaptive learning rates."""

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.adabelief import AdaBelief
from keras_adaptive.optimizers.catalogue.adabound import AdaBound
from keras_adaptive.optimizers.catalogue.adadelta import Adadelta
from keras_adaptive.optimizers.catalogue.adafactor import Adafactor
from keras_adaptive.optimizers.catalogue.adagrad import Adagrad
from keras_adaptive.optimizers.catalogue.adam import Adam, AdamW
from keras_adaptive.optimizers.catalogue.adamax import Adamax
from keras_adaptive.optimizers.catalogue.adan import Adan
from keras_adaptive.optimizers.catalogue.ademamix import AdEMAMix
from keras_adaptive.optimizers.catalogue.adopt import ADOPT
from keras_adaptive.optimizers.catalogue.came import CAME
from keras_adaptive.optimizers.catalogue.cocob import COCOB
from keras_adaptive.optimizers.catalogue.dadapt import (
    DAdaptAdaGrad,
    DAdaptAdam,
    DAdaptSGD,
)
from keras_adaptive.optimizers.catalogue.dog import DoG, DoWG, LDoG
from keras_adaptive.optimizers.catalogue.ftrl import Ftrl
from keras_adaptive.optimizers.catalogue.grams import Grams
from keras_adaptive.optimizers.catalogue.lamb import Lamb
from keras_adaptive.optimizers.catalogue.laprop import LaProp
from keras_adaptive.optimizers.catalogue.lars import LARS
from keras_adaptive.optimizers.catalogue.lion import Lion
from keras_adaptive.optimizers.catalogue.mars import MARS
from keras_adaptive.optimizers.catalogue.muon import Muon
from keras_adaptive.optimizers.catalogue.nadam import Nadam
from keras_adaptive.optimizers.catalogue.novograd import NovoGrad
from keras_adaptive.optimizers.catalogue.prodigy import Prodigy
from keras_adaptive.optimizers.catalogue.radam import RAdam
from keras_adaptive.optimizers.catalogue.rmsprop import RMSprop
from keras_adaptive.optimizers.catalogue.schedule_free import (
    ScheduleFreeAdamW,
    ScheduleFreeRAdam,
    ScheduleFreeSGD,
)
from keras_adaptive.optimizers.catalogue.sgd import SGD
from keras_adaptive.optimizers.catalogue.shampoo import Shampoo
from keras_adaptive.optimizers.catalogue.soap import SOAP
from keras_adaptive.optimizers.catalogue.yogi import Yogi
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    NON_NEGATIVE_OR_NONE,
    POSITIVE,
    POSITIVE_OR_NONE,
    Hyper,
    Interval,
    LearningRate,
    Slot,
    choice,
    hyperparameter,
    standing_still,
)
from keras_adaptive.optimizers.wrappers.lookahead import Lookahead
from keras_adaptive.optimizers.wrappers.mechanic import Mechanic
from keras_adaptive.optimizers.wrappers.sam import ASAM, SAM

__all__ = [
    "ADOPT",
    "ASAM",
    "CAME",
    "COCOB",
    "DECAY_RATE",
    "LARS",
    "MARS",
    "NON_NEGATIVE",
    "NON_NEGATIVE_OR_NONE",
    "POSITIVE",
    "POSITIVE_OR_NONE",
    "SAM",
    "SGD",
    "SOAP",
    "AdEMAMix",
    "AdaBelief",
    "AdaBound",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Adan",
    "AdaptiveOptimizer",
    "DAdaptAdaGrad",
    "DAdaptAdam",
    "DAdaptSGD",
    "DoG",
    "DoWG",
    "Ftrl",
    "Grams",
    "Hyper",
    "Interval",
    "LDoG",
    "LaProp",
    "Lamb",
    "LearningRate",
    "Lion",
    "Lookahead",
    "Mechanic",
    "Muon",
    "Nadam",
    "NovoGrad",
    "Prodigy",
    "RAdam",
    "RMSprop",
    "ScheduleFreeAdamW",
    "ScheduleFreeRAdam",
    "ScheduleFreeSGD",
    "Shampoo",
    "Slot",
    "Yogi",
    "choice",
    "hyperparameter",
    "standing_still",
]
