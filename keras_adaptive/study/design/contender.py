"""Contenders: optimizers with the settings among which they are tuned."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import keras

from keras_adaptive import optimizers
from keras_adaptive.errors import InputError, did_you_mean, named
from keras_adaptive.plain_numbers import plain
from keras_adaptive.renamed import renamed_argument
from keras_adaptive.study.design.grid import half_decades_around
from keras_adaptive.study.design.setting import Setting

LIBRARIES = {
    "": optimizers,
    "keras_adaptive": optimizers,
    "keras": keras.optimizers,
}
PROBE = 0.001
"""The learning rate of an optimizer that is made only to inspect it."""

MakeOptimizer = Callable[..., keras.optimizers.Optimizer]


@renamed_argument("second", "extra_hyperparameter")
@dataclass(frozen=True)
class Contender:
    """An optimizer that takes part in a study.

    Args:
        optimizer: The name of one of our optimizers (`"adam"`) or of one of Keras's
            (`"keras/adam"`), or a function from a learning rate to a Keras optimizer.
        learning_rates: The grid to tune on. `None` lays as many half decades as the
            protocol has trials around the optimizer's default. A single rate is fixed
            and not tuned.
        extra_hyperparameter: Name and values of another hyper-parameter, as in
            `("epsilon", (1e-8, 1e-4))`. It is tuned together with the learning rate
            and passed to the optimizer by name. Every contender has the same number
            of trials, so more values leave fewer learning rates.
        label: The name in tables and in MLflow; `None` for the optimizer's name.

    Raises:
        InputError: If the optimizer does not exist, or if a grid is empty, repeats a
            value or contains one that is not positive and finite.

    Example:
        >>> Contender("adam").label, Contender("keras/SGD").label
        ('adam', 'keras/SGD')
        >>> momentum = Contender(lambda rate: keras.optimizers.SGD(rate, momentum=0.9))
        >>> momentum.label
        'keras/sgd'
        >>> momentum.make(Setting(0.1)).momentum
        0.9
    """

    optimizer: str | MakeOptimizer
    learning_rates: Sequence[float] | None = None
    extra_hyperparameter: tuple[str, Sequence[float]] | None = None
    label: str = ""

    def __post_init__(self) -> None:
        """Checks the optimizer and sorts the grids."""
        if isinstance(self.optimizer, str):
            _named(self.optimizer)
        elif not callable(self.optimizer):
            raise InputError(
                f"A contender's optimizer is {self.optimizer!r}. Expected a name such "
                "as 'adam' or 'keras/adam', or a function from a learning rate to a "
                "keras.optimizers.Optimizer."
            )
        if self.extra_hyperparameter is not None:
            name, values = self.extra_hyperparameter
            if named("A hyper-parameter", name) == "learning_rate":
                raise InputError(
                    "The extra hyper-parameter is called 'learning_rate', which is "
                    "tuned anyway. Give its values as learning_rates=(...)."
                )
            values = _grid(f"Values of {name}", values)
            object.__setattr__(self, "extra_hyperparameter", (name, values))
        if self.learning_rates is not None:
            rates = _grid("Learning rates", self.learning_rates)
            object.__setattr__(self, "learning_rates", rates)
        if not self.label:
            object.__setattr__(self, "label", self._default_label())
        named("A contender", self.label)

    def _default_label(self) -> str:
        if isinstance(self.optimizer, str):
            return self.optimizer
        return _name_of(type(self._sample()))

    def settings_at(self, learning_rate: float) -> list[Setting]:
        """Returns the settings with a learning rate: one for each other value."""
        if self.extra_hyperparameter is None:
            return [Setting(learning_rate)]
        name, values = self.extra_hyperparameter
        return [Setting(learning_rate, (name, value)) for value in values]

    @property
    def is_fixed(self) -> bool:
        """Whether it has a single setting, so that there is nothing to tune."""
        rates = self.learning_rates
        return rates is not None and len(rates) == len(self.settings_at(PROBE)) == 1

    @property
    def middle_learning_rate(self) -> float:
        """The geometric middle of its learning rates, or its default rate.

        Raises:
            InputError: If it has neither.
        """
        rates = self.learning_rates
        if rates is None:
            return self._default_learning_rate()
        return math.sqrt(rates[0] * rates[-1])

    def grid(self, trials: int) -> list[Setting]:
        """Returns the settings that tuning begins with.

        Args:
            trials: The number of settings of every contender that is tuned.

        Returns:
            The settings, ordered by learning rate; only one if the setting is fixed.

        Raises:
            InputError: If the contender's own grid has another size.
        """
        rates, values = self.learning_rates, len(self.settings_at(PROBE))
        if not self.is_fixed and (
            trials % values or rates and len(rates) * values != trials
        ):
            size = f"{len(rates)} learning rates" if rates else "learning rates"
            if self.extra_hyperparameter:
                name, _ = self.extra_hyperparameter
                size += f" for each of {values} values of {name}"
            raise InputError(
                f"{self.label} has {size}, but every contender is tuned with {trials} "
                "trials. Expected a grid of that size, a single learning rate (then "
                "there is no tuning), or another Protocol(tuning_trials=...)."
            )
        if rates is None:
            default = self._default_learning_rate()
            rates = half_decades_around(default, trials // values)
        return [setting for rate in rates for setting in self.settings_at(rate)]

    def _default_learning_rate(self) -> float:
        cls = type(self._sample())
        default = _default_rate(cls)
        if default is None:
            raise InputError(
                f"{self.label}: {cls.__name__} has no default learning rate to put the "
                "grid around. Give the contender learning_rates=(...)."
            )
        return default

    def _sample(self) -> keras.optimizers.Optimizer:
        return self.make(self.settings_at(PROBE)[0])

    def make(self, setting: Setting) -> keras.optimizers.Optimizer:
        """Returns a new optimizer.

        Args:
            setting: Its hyper-parameters.

        Raises:
            InputError: If it cannot be made or is not a Keras optimizer.
        """
        make = self.optimizer
        if isinstance(make, str):
            make = _named(make)
        extra = setting.extra_hyperparameter
        shown = self.label or self.optimizer
        try:
            made = make(setting.learning_rate, **dict([extra] if extra else []))
        except Exception as error:
            raise InputError(
                f"The optimizer of {shown!r} cannot be made with {setting}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(made, keras.optimizers.Optimizer):
            raise InputError(
                f"The optimizer of {shown!r} is {made!r}. Expected a function from a "
                "learning rate to a keras.optimizers.Optimizer."
            )
        return made


def _grid(what: str, values: Sequence[float]) -> tuple[float, ...]:
    """Returns the sorted values of a grid after checking them."""
    given = [plain(value) for value in values]
    for value in given:
        if isinstance(value, bool):
            raise InputError(f"{what}: {value} is not a positive, finite number.")
    grid = tuple(sorted(map(float, given)))
    if not grid:
        raise InputError(f"{what}: the grid is empty. Expected at least one value.")
    for value in grid:
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"{what}: {value} is not a positive, finite number.")
    if len(set(grid)) < len(grid):
        raise InputError(f"{what}: {grid} names a value twice.")
    return grid


def _default_rate(cls: type) -> float | None:
    """Returns the default learning rate of an optimizer class, if it has one."""
    parameters = inspect.signature(cls).parameters
    default = (
        parameters["learning_rate"].default if "learning_rate" in parameters else 0
    )
    return default if isinstance(default, float | int) and default > 0 else None


@cache
def _catalogue(library: ModuleType) -> dict[str, type]:
    """Returns the optimizers of a library that take a learning rate."""
    return {
        name.lower(): cls
        for name, cls in vars(library).items()
        if isinstance(cls, type)
        and issubclass(cls, keras.optimizers.Optimizer)
        and _default_rate(cls) is not None
    }


def optimizer_names() -> list[str]:
    """Returns the names that select an optimizer, ours first."""
    return [
        prefix + name
        for prefix, library in (("", optimizers), ("keras/", keras.optimizers))
        for name in sorted(_catalogue(library))
    ]


def _named(name: str) -> type:
    """Returns the optimizer class of a name."""
    library, _, bare = name.rpartition("/")
    if library in LIBRARIES:
        found = _catalogue(LIBRARIES[library])
        if cls := found.get(bare.lower().replace("_", "")):
            return cls
    near = did_you_mean(name.lower(), optimizer_names())
    raise InputError(
        f"There is no optimizer {name!r}.{near} Expected one of ours, such as 'adam', "
        "one of Keras's, such as 'keras/adam', or a function from a learning rate to "
        "an optimizer. Optimizers that wrap another one need a function."
    )


def _name_of(cls: type) -> str:
    """Returns the name of an optimizer that a function made."""
    library = cls.__module__.partition(".")[0]
    prefix = "keras/" if library == "keras" else ""
    return prefix + cls.__name__.lower()
