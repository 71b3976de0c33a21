"""Optimizers with adaptive learning rates."""

from keras_adaptive.optimizers.adabelief import AdaBelief
from keras_adaptive.optimizers.adabound import AdaBound
from keras_adaptive.optimizers.adadelta import Adadelta
from keras_adaptive.optimizers.adafactor import Adafactor
from keras_adaptive.optimizers.adagrad import Adagrad
from keras_adaptive.optimizers.adam import Adam, AdamW
from keras_adaptive.optimizers.adamax import Adamax
from keras_adaptive.optimizers.adan import Adan
from keras_adaptive.optimizers.ademamix import AdEMAMix
from keras_adaptive.optimizers.adopt import ADOPT
from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.bounds import (
    DECAY_RATE,
    NON_NEGATIVE,
    POSITIVE,
    Interval,
)
from keras_adaptive.optimizers.came import CAME
from keras_adaptive.optimizers.cocob import COCOB
from keras_adaptive.optimizers.dadapt import DAdaptAdaGrad, DAdaptAdam, DAdaptSGD
from keras_adaptive.optimizers.deferred import standing_still
from keras_adaptive.optimizers.dog import DoG, DoWG, LDoG
from keras_adaptive.optimizers.ftrl import Ftrl
from keras_adaptive.optimizers.grams import Grams
from keras_adaptive.optimizers.lamb import Lamb
from keras_adaptive.optimizers.laprop import LaProp
from keras_adaptive.optimizers.lars import LARS
from keras_adaptive.optimizers.lion import Lion
from keras_adaptive.optimizers.lookahead import Lookahead
from keras_adaptive.optimizers.mars import MARS
from keras_adaptive.optimizers.mechanic import Mechanic
from keras_adaptive.optimizers.muon import Muon
from keras_adaptive.optimizers.nadam import Nadam
from keras_adaptive.optimizers.novograd import NovoGrad
from keras_adaptive.optimizers.prodigy import Prodigy
from keras_adaptive.optimizers.radam import RAdam
from keras_adaptive.optimizers.rmsprop import RMSprop
from keras_adaptive.optimizers.rule import Hyper, Slot
from keras_adaptive.optimizers.sam import ASAM, SAM
from keras_adaptive.optimizers.schedule_free import (
    ScheduleFreeAdamW,
    ScheduleFreeRAdam,
    ScheduleFreeSGD,
)
from keras_adaptive.optimizers.sgd import SGD
from keras_adaptive.optimizers.shampoo import Shampoo
from keras_adaptive.optimizers.soap import SOAP
from keras_adaptive.optimizers.yogi import Yogi

__all__ = [
    "ADOPT",
    "ASAM",
    "CAME",
    "COCOB",
    "DECAY_RATE",
    "LARS",
    "MARS",
    "NON_NEGATIVE",
    "POSITIVE",
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
    "standing_still",
]
