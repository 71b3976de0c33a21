"""One row a class: the tests of optimizers run over all of these cases."""

import dataclasses
import functools
import inspect
from collections.abc import Iterable
from typing import Any, TypeVar

import keras

from keras_adaptive import optimizers
from keras_adaptive.optimizers import Hyper

SPARSE_MODES = ("deferred", "lazy", "dense")

Item = TypeVar("Item")


def third_on_jax(cases: Iterable[Item]) -> list[Item]:
    """All cases, on JAX every third: without `jit`, one takes seconds there."""
    return list(cases)[:: 3 if keras.backend.backend() == "jax" else 1]


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """An optimizer with the arguments to test it with.

    What it can do is found out, not declared.
    """

    name: str
    cls: type
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)

    def make(self, **options):
        return self.cls(**{**self.arguments, **options})

    @functools.cached_property
    def modes(self) -> tuple[str, ...]:
        def possible(mode):
            try:
                self.make(sparse=mode)
            except ValueError:
                return False
            return True

        return tuple(mode for mode in SPARSE_MODES if possible(mode))

    @functools.cached_property
    def drifts(self) -> bool:
        """Whether a row moves while its gradient is zero."""
        optimizer = self.make()
        optimizer.build([keras.Variable(0.0)])
        return optimizer.drift(Hyper(optimizer, 0.1, 0, "float64")) is not None

    @functools.cached_property
    def namesake(self) -> type | None:
        """Keras's class of the same name, if it takes these arguments."""
        cls = getattr(keras.optimizers, self.cls.__name__, None)
        if cls is None or not self.arguments.keys() <= parameters(cls).keys():
            return None
        return cls

    @functools.cached_property
    def no_decay(self) -> float | None:
        """The weight decay that is none: AdamW and the like do not take `None`."""
        try:
            self.make(weight_decay=None)
        except ValueError:
            return 0.0
        return None

    @functools.cached_property
    def separable(self) -> bool:
        """Whether a variable's update depends on nothing of the other variables."""
        return not self.make().global_slots

    def make_namesake(self, **options):
        return self.namesake(**{**self.arguments, **options})


def parameters(function) -> dict[str, inspect.Parameter]:
    return {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


# Adam's deferred mode is exact but for epsilon, hence a tiny one. The others are
# sums of few powers of two: Keras rounds them to float32, which leaves them alone.
ADAGRAD = {"learning_rate": 2**-3, "initial_accumulator_value": 2**-3}
RMSPROP = {"learning_rate": 2**-6, "rho": 0.875, "epsilon": 2**-20}
ADAM = {"learning_rate": 2**-6, "beta_1": 0.875, "beta_2": 1 - 2**-8}
ADAM["epsilon"] = 2**-45

CASES = (
    Case("adagrad", optimizers.Adagrad, ADAGRAD),
    Case("adagrad-row", optimizers.Adagrad, {**ADAGRAD, "row_wise": True}),
    Case("rmsprop", optimizers.RMSprop, RMSPROP),
    Case(
        "rmsprop-momentum",
        optimizers.RMSprop,
        {**RMSPROP, "momentum": 0.75, "centered": True},
    ),
    Case("rmsprop-row", optimizers.RMSprop, {**RMSPROP, "row_wise": True}),
    Case("adam", optimizers.Adam, ADAM),
    Case("adam-amsgrad", optimizers.Adam, {**ADAM, "amsgrad": True}),
    Case("adam-row", optimizers.Adam, {**ADAM, "row_wise": True}),
    Case("adamw", optimizers.AdamW, {**ADAM, "weight_decay": 0.125}),
)

# The rest of the catalogue, a row a class: `test_catalogue.py` runs over them and those
# above. Powers of two as above, and an epsilon that does not hide what is tested.
ADADELTA = {"learning_rate": 0.5, "rho": 0.875, "epsilon": 2**-8}
FTRL = {
    "learning_rate": 2**-3,
    "learning_rate_power": -0.75,
    "initial_accumulator_value": 2**-3,
    "l1_regularization_strength": 2**-2,
    "l2_regularization_strength": 2**-4,
    "beta": 0.5,
}
FACTORED = {"learning_rate": 2**-4, "epsilon_1": 2**-20, "epsilon_2": 2**-6}
LION = {"learning_rate": 2**-8, "beta_1": 0.875, "beta_2": 1 - 2**-6}
SGD = {"learning_rate": 2**-5}
MUON = {"learning_rate": 2**-6, "momentum": 0.875, "adam_weight_decay": None}
SOAP = {**ADAM, "shampoo_beta": 0.75, "precondition_frequency": 2, "epsilon": 2**-20}
# A side longer than the other has a null space at first, and any basis of it will do.
SOAP["max_precond_dim"] = 3
SHAMPOO = {"learning_rate": 2**-4, "epsilon": 2**-4}
D_ADAPTATION = {"learning_rate": 0.5, "d0": 2**-5, "growth_rate": 1.25}
SCHEDULE_FREE = {"warmup_steps": 4, "r": 0.5, "weight_lr_power": 1.0}

CATALOGUE = (
    Case("adafactor", optimizers.Adafactor, {**FACTORED, "clip_threshold": 0.5}),
    Case(
        "came",
        optimizers.CAME,
        {**FACTORED, "beta_1": 0.875, "beta_2": 0.75, "beta_3": 0.9375},
    ),
    Case("cocob", optimizers.COCOB, {"alpha": 16.0, "epsilon": 2**-10}),
    Case(
        "dadapt-adagrad",
        optimizers.DAdaptAdaGrad,
        {**D_ADAPTATION, "momentum": 0.75, "epsilon": 2**-6},
    ),
    Case("dadapt-adam", optimizers.DAdaptAdam, {**ADAM, **D_ADAPTATION}),
    Case("dadapt-sgd", optimizers.DAdaptSGD, {**D_ADAPTATION, "momentum": 0.75}),
    Case("dog", optimizers.DoG, {"reps_rel": 2**-6, "epsilon": 2**-6}),
    Case("dowg", optimizers.DoWG, {"init_estim_sq_dist": 2**-6, "epsilon": 2**-6}),
    Case("ldog", optimizers.LDoG, {"reps_rel": 2**-6, "epsilon": 2**-6}),
    Case(
        "prodigy",
        optimizers.Prodigy,
        {**ADAM, **D_ADAPTATION, "beta_3": 0.9375, "d_coef": 2.0},
    ),
    Case(
        "adabound",
        optimizers.AdaBound,
        {**ADAM, "final_learning_rate": 2**-5, "gamma": 0.125},
    ),
    Case("adan", optimizers.Adan, {**ADAM, "beta_2": 0.75, "beta_3": 1 - 2**-6}),
    Case("grams", optimizers.Grams, ADAM),
    Case("lamb", optimizers.Lamb, ADAM),
    Case("lars", optimizers.LARS, {"momentum": 0.75, "trust_coefficient": 2**-6}),
    Case("mars", optimizers.MARS, {**ADAM, "gamma": 2**-4}),
    Case("novograd", optimizers.NovoGrad, {**ADAM, "learning_rate": 2**-8}),
    Case("adadelta", optimizers.Adadelta, ADADELTA),
    Case("adadelta-row", optimizers.Adadelta, {**ADADELTA, "row_wise": True}),
    Case("adamax", optimizers.Adamax, ADAM),
    Case("ftrl", optimizers.Ftrl, FTRL),
    Case("lion", optimizers.Lion, LION),
    Case("nadam", optimizers.Nadam, ADAM),
    Case("nadam-row", optimizers.Nadam, {**ADAM, "row_wise": True}),
    Case("sgd", optimizers.SGD, SGD),
    Case("sgd-momentum", optimizers.SGD, {**SGD, "momentum": 0.75}),
    Case("sgd-nesterov", optimizers.SGD, {**SGD, "momentum": 0.75, "nesterov": True}),
    Case("adabelief", optimizers.AdaBelief, ADAM),
    Case("adabelief-amsgrad", optimizers.AdaBelief, {**ADAM, "amsgrad": True}),
    Case("ademamix", optimizers.AdEMAMix, {**ADAM, "beta_3": 1 - 2**-6}),
    Case(
        "ademamix-warmup",
        optimizers.AdEMAMix,
        {**ADAM, "beta_3": 1 - 2**-6, "alpha_warmup": 4, "beta_3_warmup": 4},
    ),
    Case("adopt", optimizers.ADOPT, {**ADAM, "epsilon": 2**-10}),
    Case("adopt-row", optimizers.ADOPT, {**ADAM, "epsilon": 2**-10, "row_wise": True}),
    Case("laprop", optimizers.LaProp, ADAM),
    Case("laprop-row", optimizers.LaProp, {**ADAM, "row_wise": True}),
    Case("radam", optimizers.RAdam, ADAM),
    Case("muon", optimizers.Muon, {**MUON, "epsilon": 2**-45}),
    Case(
        "schedule-free-adamw",
        optimizers.ScheduleFreeAdamW,
        {**ADAM, **SCHEDULE_FREE, "row_wise": True},
    ),
    Case(
        "schedule-free-radam",
        optimizers.ScheduleFreeRAdam,
        {**ADAM, "silent_sgd_phase": False},
    ),
    Case(
        "schedule-free-sgd",
        optimizers.ScheduleFreeSGD,
        {"learning_rate": 2**-4, "momentum": 0.875, **SCHEDULE_FREE},
    ),
    Case(
        "schedule-free-polyak",
        optimizers.ScheduleFreeSGD,
        {"learning_rate": 2**-4, "momentum": 0.0, **SCHEDULE_FREE},
    ),
    Case("shampoo", optimizers.Shampoo, SHAMPOO),
    Case("shampoo-rare", optimizers.Shampoo, {**SHAMPOO, "precondition_frequency": 3}),
    Case("shampoo-diagonal", optimizers.Shampoo, {**SHAMPOO, "max_precond_dim": 3}),
    Case("soap", optimizers.SOAP, SOAP),
    Case("yogi", optimizers.Yogi, {**ADAM, "initial_accumulator_value": 2**-20}),
)

# Wrappers, around a config so that each has an optimizer of its own.
SGD_CONFIG = {"learning_rate": 2**-4, "momentum": 0.75}
AROUND_SGD = {"optimizer": {"class_name": "SGD", "config": SGD_CONFIG}}
WRAPPERS = (
    Case("asam", optimizers.ASAM, {**AROUND_SGD, "rho": 0.5}),
    Case(
        "lookahead",
        optimizers.Lookahead,
        {**AROUND_SGD, "sync_period": 4, "slow_step_size": 0.75},
    ),
    Case("mechanic", optimizers.Mechanic, {**AROUND_SGD, "s_init": 2**-6}),
    Case(
        "mechanic-delta",
        optimizers.Mechanic,
        {**AROUND_SGD, "s_init": 2**-6, "s_decay": 2**-6, "store_delta": True},
    ),
    Case("sam", optimizers.SAM, {**AROUND_SGD, "rho": 0.25}),
)

EVERY = CASES + CATALOGUE

CLASSES = tuple(dict.fromkeys(case.cls for case in CASES))
NAMESAKES = tuple(case for case in CASES if case.namesake is not None)
MODES = tuple((case, mode) for case in CASES for mode in case.modes)
CLOSED_FORMS = tuple(case for case in CASES if "deferred" in case.modes)


def name_of(value) -> str | None:
    """For `ids=` of `pytest.mark.parametrize`."""
    return value.name if isinstance(value, Case) else None


class Ramp(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that moves at every step, so that one step off is seen."""

    def __init__(self, peak=0.0625, period=8):
        self.peak = peak
        self.period = period

    def __call__(self, step):
        place = keras.ops.cast(keras.ops.mod(step, self.period), "float64")
        return self.peak * (1 + place) / self.period

    def get_config(self):
        return {"peak": self.peak, "period": self.period}
