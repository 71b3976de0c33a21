"""Learning rates as inputs of a program, so that one program serves all of them.

A learning rate that is a number is a variable of its optimizer, and a program takes
variables as inputs anyway. The numbers of a schedule are attributes of an object; they
become inputs here. All other hyper-parameters stay constants of their program: as
inputs they would be rounded to float32 before `1 - beta_2` is computed, not after.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras

LEARNING_RATE = "learning_rate"

INNER = ("inner_optimizer", "optimizer")
"""Attributes that hold the optimizer inside another one."""

NO_CONSTANTS = (LEARNING_RATE, "name")
"""Parts of a configuration that are no constants of a program."""


def schedules_of(optimizer: Any) -> list[Any]:
    """Returns the schedules of an optimizer and of those inside it."""
    own = getattr(optimizer, "_learning_rate", None)
    found = (
        [own]
        if isinstance(own, keras.optimizers.schedules.LearningRateSchedule)
        else []
    )
    inner = [getattr(optimizer, name, None) for name in INNER]
    for each in [*inner, *getattr(optimizer, "optimizers", [])]:
        if each is not None:
            found += schedules_of(each)
    return found


def numbers_of(schedule: Any) -> dict[str, float]:
    """Returns the numbers of a schedule that can become inputs, by name."""
    return {
        name: value
        for name, value in schedule.get_config().items()
        if isinstance(value, float) and getattr(schedule, name, None) == value
    }


def all_numbers(optimizer: Any) -> list[float]:
    """Returns the numbers of all schedules of an optimizer."""
    return [
        value
        for schedule in schedules_of(optimizer)
        for value in numbers_of(schedule).values()
    ]


@contextmanager
def numbers_replaced(optimizer: Any, numbers: Sequence[Any]) -> Iterator[None]:
    """Replaces the numbers of all schedules, in the order of `all_numbers`."""
    schedules = schedules_of(optimizer)
    before = [(schedule, numbers_of(schedule)) for schedule in schedules]
    given = iter(numbers)
    try:
        for schedule, old in before:
            for name in old:
                setattr(schedule, name, next(given))
        yield
    finally:
        for schedule, old in before:
            for name, value in old.items():
                setattr(schedule, name, value)


def structure_of(optimizer: keras.optimizers.Optimizer) -> str:
    """Returns what optimizers must have in common to share a program.

    Args:
        optimizer: The optimizer.

    Returns:
        Its configuration as text, without learning rates and without the numbers of
        schedules.
    """
    config = optimizer.get_config()
    schedules = schedules_of(optimizer)
    if sum(1 for _ in _rate_configs(config)) != len(schedules):
        return _text([type(optimizer).__name__, config])  # some schedule is hidden
    remaining = []
    for schedule in schedules:
        own, free = schedule.get_config(), numbers_of(schedule)
        fixed = {n: v for n, v in own.items() if n not in free and n != "name"}
        remaining.append([type(schedule).__qualname__, fixed])
    return _text([type(optimizer).__name__, _without_rates(config), remaining])


def _rate_configs(config: Any) -> Iterator[Mapping[str, Any]]:
    """Yields the configurations of schedules within that of an optimizer."""
    if isinstance(config, Mapping):
        for name, value in config.items():
            if name == LEARNING_RATE and isinstance(value, Mapping):
                yield value
            else:
                yield from _rate_configs(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _rate_configs(value)


def _without_rates(config: Any) -> Any:
    if isinstance(config, Mapping):
        return {
            name: _without_rates(value)
            for name, value in config.items()
            if name not in NO_CONSTANTS
        }
    if isinstance(config, (list, tuple)):
        return [_without_rates(value) for value in config]
    return config


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=repr)
