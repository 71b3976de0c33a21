"""Who is compared: an optimizer and the settings among which it is tuned."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

import keras

from keras_adaptive import optimizers
from keras_adaptive.errors import StudyError, did_you_mean
from keras_adaptive.study.design.grid import half_decades_around

LIBRARIES = {
    "": optimizers,
    "keras_adaptive": optimizers,
    "keras": keras.optimizers,
}
PROBE = 0.001
"""The learning rate of an optimizer that is made only to look at it."""


@dataclass(frozen=True)
class Setting:
    """The hyper-parameters that are tuned, with their values.

    Args:
        learning_rate: The learning rate.
        second: Name and value of the second hyper-parameter, if one is tuned.
    """

    learning_rate: float
    second: tuple[str, float] | None = None

    def __str__(self) -> str:
        rate = f"learning rate {self.learning_rate:g}"
        return f"{rate}, {self.second[0]} {self.second[1]:g}" if self.second else rate


@dataclass(frozen=True)
class Contender:
    """An optimizer that takes part in a study.

    Args:
        optimizer: The name of one of ours (`"adam"`), of one of Keras's
            (`"keras/adam"`), or a function from a learning rate to a Keras optimizer.
        learning_rates: The grid to tune on. `None` for as many half decades as the
            protocol has trials, around the optimizer's default. A single rate is
            fixed: there is nothing to tune.
        second: A second hyper-parameter and its values, as in
            `("epsilon", (1e-8, 1e-4))`. It is tuned together with the learning rate,
            and passed to the optimizer by its name. The budget of trials is that of
            every other contender: more values leave fewer learning rates.
        label: Its name in tables and in MLflow; `None` for that of the optimizer.

    Raises:
        StudyError: If there is no such optimizer, if a grid is empty or holds a
            value that is not positive, or one value twice.

    Example:

    >>> Contender("adam").label, Contender("keras/SGD").label
    ('adam', 'keras/SGD')
    >>> momentum = Contender(lambda rate: keras.optimizers.SGD(rate, momentum=0.9))
    >>> momentum.label
    'keras/sgd'
    >>> momentum.make(Setting(0.1)).momentum
    0.9
    """

    optimizer: str | Callable[[float], keras.optimizers.Optimizer]
    learning_rates: Sequence[float] | None = None
    second: tuple[str, Sequence[float]] | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.optimizer, str):
            _named(self.optimizer)
        elif not callable(self.optimizer):
            raise StudyError(
                f"A contender's optimizer is {self.optimizer!r}. Expected a name such "
                "as 'adam' or 'keras/adam', or a function from a learning rate to a "
                "keras.optimizers.Optimizer."
            )
        if self.second is not None:
            name, values = self.second
            values = _grid(f"Values of {name}", values)
            object.__setattr__(self, "second", (name, values))
        if self.learning_rates is not None:
            rates = _grid("Learning rates", self.learning_rates)
            object.__setattr__(self, "learning_rates", rates)
        if self.label is None:
            written = isinstance(self.optimizer, str)
            label = self.optimizer if written else _name_of(type(self._sample()))
            object.__setattr__(self, "label", label)

    @property
    def seconds(self) -> list[tuple[str, float] | None]:
        """The second parts of the settings; `[None]` if only the rate is tuned."""
        if self.second is None:
            return [None]
        name, values = self.second
        return [(name, value) for value in values]

    def grid(self, trials: int) -> list[Setting]:
        """Returns the settings that tuning begins with.

        Args:
            trials: How many there are for every contender that is tuned.

        Returns:
            The settings in the order of the learning rates; only one for a contender
            with a fixed setting.

        Raises:
            StudyError: If the contender's own grid is of another size.
        """
        rates, seconds = self.learning_rates, self.seconds
        fixed = rates is not None and len(rates) == len(seconds) == 1
        if not fixed and (
            trials % len(seconds) or rates and len(rates) * len(seconds) != trials
        ):
            size = f"{len(rates)} learning rates" if rates else "learning rates"
            if self.second:
                size += f" for each of {len(seconds)} values of {self.second[0]}"
            raise StudyError(
                f"{self.label} has {size}, but every contender is tuned with {trials} "
                "trials. Expected a grid of that size, a single learning rate (then "
                "there is no tuning), or another Protocol(tuning_trials=...)."
            )
        if rates is None:
            default = self._default_learning_rate()
            rates = half_decades_around(default, trials // len(seconds))
        return [Setting(rate, second) for rate in rates for second in seconds]

    def _default_learning_rate(self) -> float:
        cls = type(self._sample())
        default = _default_rate(cls)
        if default is None:
            raise StudyError(
                f"{self.label}: {cls.__name__} has no default learning rate to put the "
                "grid around. Give the contender learning_rates=(...)."
            )
        return default

    def _sample(self) -> keras.optimizers.Optimizer:
        return self.make(Setting(PROBE, self.seconds[0]))

    def make(self, setting: Setting) -> keras.optimizers.Optimizer:
        """Returns a new optimizer.

        Args:
            setting: Its hyper-parameters.

        Raises:
            StudyError: If it cannot be made, or is not a Keras optimizer.
        """
        make = self.optimizer
        if isinstance(make, str):
            make = _named(make)
        extra = dict([setting.second]) if setting.second else {}
        shown = self.label or self.optimizer
        try:
            made = make(setting.learning_rate, **extra)
        except Exception as error:
            raise StudyError(
                f"The optimizer of {shown!r} cannot be made with {setting}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(made, keras.optimizers.Optimizer):
            raise StudyError(
                f"The optimizer of {shown!r} is {made!r}. Expected a function from a "
                "learning rate to a keras.optimizers.Optimizer."
            )
        return made


def _grid(what: str, values: Sequence[float]) -> tuple[float, ...]:
    """Returns the sorted values of a grid, if all are usable."""
    grid = tuple(sorted(float(value) for value in values))
    if not grid:
        raise StudyError(f"{what}: the grid is empty. Expected at least one value.")
    for value in grid:
        if not (value > 0 and math.isfinite(value)):
            raise StudyError(f"{what}: {value} is not a positive, finite number.")
    if len(set(grid)) < len(grid):
        raise StudyError(f"{what}: {grid} names a value twice.")
    return grid


def _default_rate(cls: type) -> float | None:
    """Returns the default learning rate of an optimizer class, if it has one."""
    parameters = inspect.signature(cls).parameters
    default = (
        parameters["learning_rate"].default if "learning_rate" in parameters else 0
    )
    return default if isinstance(default, float | int) and default > 0 else None


def _catalogue(library: ModuleType) -> dict[str, type]:
    """Returns the optimizers of a library that are made from a learning rate."""
    return {
        name.lower(): cls
        for name, cls in vars(library).items()
        if isinstance(cls, type)
        and issubclass(cls, keras.optimizers.Optimizer)
        and _default_rate(cls) is not None
    }


def optimizer_names() -> list[str]:
    """Returns the names that a contender may be given by, ours first."""
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
    raise StudyError(
        f"There is no optimizer {name!r}.{near} Expected one of ours, such as 'adam', "
        "one of Keras's, such as 'keras/adam', or a function from a learning rate to "
        "an optimizer. Those that wrap another one need a function."
    )


def _name_of(cls: type) -> str:
    """Returns the name of an optimizer that was made by a function."""
    library = cls.__module__.partition(".")[0]
    prefix = "keras/" if library == "keras" else ""
    return prefix + cls.__name__.lower()
