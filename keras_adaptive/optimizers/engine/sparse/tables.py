"""Tables that a layer reads by row, and the optimizers that update them.

A layer cannot know the optimizer of its model. Here the two find each other: the layer
registers its table, and an optimizer that is built for it claims it. Both may be gone
at any time.
"""

from __future__ import annotations

import dataclasses
import weakref
from typing import Any


@dataclasses.dataclass
class _Entry:
    variable: weakref.ref[Any]
    optimizer: weakref.ref[Any] | None = None


_ENTRIES: dict[int, _Entry] = {}


def register(variable: Any) -> None:
    """Says that a layer reads a variable by row."""
    key = id(variable)
    _ENTRIES[key] = _Entry(weakref.ref(variable, lambda _: _ENTRIES.pop(key, None)))


def is_registered(variable: Any) -> bool:
    """Returns whether a layer reads a variable by row."""
    entry = _ENTRIES.get(id(variable))
    return entry is not None and entry.variable() is variable


def claim(variable: Any, optimizer: Any) -> None:
    """Says that an optimizer updates a variable, in the place of any other."""
    if is_registered(variable):
        _ENTRIES[id(variable)].optimizer = weakref.ref(optimizer)


def optimizer_of(variable: Any) -> Any | None:
    """Returns the optimizer that claimed a variable last, or `None`."""
    if not is_registered(variable):
        return None
    optimizer = _ENTRIES[id(variable)].optimizer
    return None if optimizer is None else optimizer()
