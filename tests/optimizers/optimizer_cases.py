"""One row a class: the tests of optimizers run over all of these cases."""

import dataclasses
import functools
import inspect
from typing import Any

import keras

from keras_adaptive import optimizers

SPARSE_MODES = ("deferred", "lazy", "dense")


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
        return optimizer.drift(optimizer._hyper(0.1, "float64")) is not None

    @functools.cached_property
    def namesake(self) -> type | None:
        """Keras's class of the same name, if it takes these arguments."""
        cls = getattr(keras.optimizers, self.cls.__name__, None)
        if cls is None or not self.arguments.keys() <= parameters(cls).keys():
            return None
        return cls

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
CATALOGUE = ()

CLASSES = {case.cls for case in CASES}
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
