"""Which variable of a saved state is which variable of a model.

An optimizer knows its variables, and no model. Their order changes when layers are
frozen, and Keras numbers the layers without a name anew in each build: `dense_1/kernel`
may be `dense_4/kernel` later. The values stay: weights and state are saved at one
moment and loaded together, weights first. So each variable is saved with a digest of
its values.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_adaptive.optimizers.contract.naming import path_of

MADE_UP = re.compile(r"_\d+(?=/|$)")
"""The number that Keras adds to the name of a layer without one."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """What tells a variable of a model from the others.

    Args:
        path: Its path.
        shape: Its shape.
        digest: A digest of its values.
    """

    path: str
    shape: tuple[int, ...]
    digest: str

    @property
    def owner(self) -> str:
        """The path of the layer that it belongs to."""
        return self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        """Its name in the layer."""
        return self.path.rpartition("/")[2]

    @property
    def plain_name(self) -> str:
        """Its name and its layer's without made-up numbers.

        What stands before them, such as `sequential`, depends on who built the model.
        """
        return "/".join(MADE_UP.sub("", self.path).split("/")[-2:])


def identities(variables: Iterable[Any]) -> list[Identity]:
    """Returns the identities of variables with their values at this moment."""
    return [
        Identity(path_of(v), tuple(v.shape), _digest(ops.convert_to_numpy(v)))
        for v in variables
    ]


def _digest(values: np.ndarray) -> str:
    whole = np.ascontiguousarray(values)
    return hashlib.blake2b(whole.tobytes(), digest_size=8).hexdigest()


def encoded(entries: Sequence[Identity]) -> np.ndarray:
    """Returns identities as an array of bytes, for a file of arrays."""
    text = json.dumps([dataclasses.astuple(entry) for entry in entries])
    return np.frombuffer(text.encode(), np.uint8)


def decoded(data: np.ndarray) -> list[Identity]:
    """Returns the identities that `encoded` was given."""
    entries = json.loads(bytes(data).decode())
    return [Identity(path, tuple(shape), digest) for path, shape, digest in entries]


def match(saved: Sequence[Identity], now: Sequence[Identity]) -> dict[int, int]:
    """Finds the variables of a saved state in a model.

    A variable is found by values that no other has, else by its path and values, else
    in the layer that others of its layer were found in. The path alone tells only
    while no layer was found under another path.

    Args:
        saved: The variables of the state.
        now: The variables of the model.

    Returns:
        Places in `now` by places in `saved`. A variable is also found if its shape has
        changed.
    """
    found: dict[int, int] = {}
    owners: dict[str, str] = {}
    places: dict[str, list[int]] = {}
    for j, new in enumerate(now):
        places.setdefault(new.plain_name, []).append(j)

    def take(tells: Callable[[Identity, Identity], bool]) -> None:
        taken, owned = set(found.values()), set(owners.values())
        for i, old in enumerate(saved):
            if i in found:
                continue
            for j in places.get(old.plain_name, ()):
                new = now[j]
                if old.owner in owners:
                    fits = owners[old.owner] == new.owner
                else:
                    fits = new.owner not in owned
                if fits and j not in taken and tells(old, new):
                    found[i] = j
                    owners[old.owner] = new.owner
                    taken.add(j)
                    owned.add(new.owner)
                    break

    def equal(old: Identity, new: Identity) -> bool:
        return old.shape == new.shape and old.digest == new.digest

    # Such as the zeros of biases.
    shared = _repeated(saved) | _repeated(now)
    take(lambda old, new: equal(old, new) and old.digest not in shared)
    take(lambda old, new: equal(old, new) and _same(old.path, new.path))
    take(lambda old, new: old.owner in owners and old.name == new.name)
    take(equal)
    if all(_same(old, new) for old, new in owners.items()):
        take(lambda old, new: _same(old.path, new.path))
    return found


def _same(old: str, new: str) -> bool:
    """Returns whether two paths are one, but for what stands before it."""
    short, long = sorted((old, new), key=len)
    return long == short or long.endswith(f"/{short}")


def _repeated(entries: Iterable[Identity]) -> set[str]:
    counts = collections.Counter(entry.digest for entry in entries)
    return {digest for digest, count in counts.items() if count > 1}


def renamed(values: Mapping[str, Any], places: Mapping[int, int]) -> dict[str, Any]:
    """Returns state with the places of its variables in the model.

    Args:
        values: The state; names end in a colon and the place of a variable, unless
            they belong to none.
        places: The places in the model by those in the state.

    Returns:
        The state of the variables that the model has.
    """
    new = {}
    for key, value in values.items():
        name, colon, place = key.rpartition(":")
        if not colon:
            new[key] = value
        elif int(place) in places:
            new[f"{name}:{places[int(place)]}"] = value
    return new
