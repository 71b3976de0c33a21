"""Objects of Keras: by configuration, weights, and what the user has added to them."""

from __future__ import annotations

import binascii
import dis
import marshal
import tempfile
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_adaptive.study.ledger.reach.functions import CodeIn
from keras_adaptive.study.ledger.reach.node import Node
from keras_adaptive.study.ledger.reach.origins import version_of

OF_KERAS = ("keras", "keras_adaptive")
DEEPEST = 5
MADE_UP = ("name", "path")
VALUES = (bool, bytes, complex, float, int, str, type(None), np.ndarray, np.generic)


def keras_node(thing: Any) -> Node | None:
    """Returns an object of Keras, `None` for any other object.

    Names that Keras makes up, such as `dense_3`, are replaced by their order. Of the
    attributes that Keras's own methods set, only plain values count, since not all of
    them are in the configuration (the delta of Huber's loss is not), and functions
    and objects of the user. All other attributes count whole.
    """
    cls = type(thing)
    keras_class = any(
        base.__module__.partition(".")[0] in OF_KERAS and hasattr(base, "get_config")
        for base in cls.__mro__
    )
    if isinstance(thing, type) or not keras_class:
        return None
    added = {name: each for name, each in vars(thing).items() if _is_added(cls, name)}
    others = {name: each for name, each in vars(thing).items() if name not in added}
    values = {
        name: _values(each)
        for name, each in others.items()
        if not any(word in name for word in MADE_UP)
    }
    variables = getattr(thing, "weights", ()) or getattr(thing, "variables", ())
    return Node(
        "object of Keras",
        (
            ("class", cls),
            ("configuration", _config(thing)),
            *sorted(added.items()),
            ("values", values),
            *(("part", part) for part in _parts(others, set())),
            *((f"weight {place}", each) for place, each in enumerate(variables)),
            ("assets", _assets(thing)),
        ),
    )


def _is_added(cls: type, name: str) -> bool:
    """Says whether the user has added an attribute to an object of Keras."""
    by_library, by_user = _stored(cls)
    if name in by_library:
        return False
    return not name.startswith("_") or name in by_user


@cache
def _stored(cls: type) -> tuple[frozenset[str], frozenset[str]]:
    """Returns the attributes that methods of libraries set, and those of the user."""
    names: tuple[set[str], set[str]] = set(), set()
    for base in cls.__mro__:
        own = version_of(base.__module__) is None
        for method in vars(base).values():
            function = getattr(method, "__func__", getattr(method, "fset", method))
            if isinstance(function, types.FunctionType):
                names[own].update(_stored_by(function.__code__))
    return frozenset(names[False]), frozenset(names[True])


def _stored_by(code: types.CodeType) -> Iterator[str]:
    for each in dis.get_instructions(code):
        if each.opname == "STORE_ATTR":
            yield each.argval
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _stored_by(inner)


def _values(value: Any, depth: int = 0) -> Any:
    """Returns the plain values in an attribute, without all other objects."""
    if isinstance(value, VALUES):
        return value
    if depth > DEEPEST:
        return None
    if isinstance(value, Mapping):
        keys = [key for key in value if isinstance(key, str | int)]
        return {key: _values(value[key], depth + 1) for key in keys}
    if isinstance(value, list | tuple):
        return [_values(each, depth + 1) for each in value]
    return None


def _parts(value: Any, seen: set[int]) -> Iterator[Any]:
    """Yields the objects of Keras and of the user in an attribute."""
    if id(value) in seen:
        return
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        seen.add(id(value))
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _parts(each, seen)
    elif isinstance(value, types.MethodType):
        yield from _parts(value.__self__, seen)
    elif isinstance(value, partial) or _is_part(value):
        yield value


def _is_part(value: Any) -> bool:
    if isinstance(value, keras.Variable | keras.KerasTensor | types.ModuleType):
        return False
    if isinstance(value, types.FunctionType):
        return version_of(value.__globals__.get("__name__", "")) is None
    if isinstance(value, type):
        return version_of(value.__module__) is None
    return hasattr(value, "get_config") or version_of(type(value).__module__) is None


def _config(thing: Any) -> Any:
    """Returns the configuration, or else what Keras knows of any layer."""
    with warnings.catch_warnings(action="ignore"):
        try:
            config = keras.saving.serialize_keras_object(thing)
        except (NotImplementedError, TypeError, ValueError):
            policy = getattr(thing, "dtype_policy", None)
            return [getattr(policy, "name", None), getattr(thing, "trainable", None)]
    return without_names(_without_place(config))


def _without_place(config: Any) -> Any:
    """Leaves out of a configuration in which file a class or a function lies."""
    if isinstance(config, Mapping):
        kept = {key: _without_place(each) for key, each in config.items()}
        if "class_name" in kept:
            kept.pop("registered_name", None)
            module = kept.get("module")
            if not isinstance(module, str) or version_of(module) is None:
                kept.pop("module", None)
        return kept
    if isinstance(config, list | tuple):
        return [_without_place(each) for each in config]
    return _code_in(config) if isinstance(config, str) else config


def _code_in(text: str) -> Any:
    """Returns the code of a lambda, which Keras stores with the place of its file."""
    if not text.endswith("\n"):
        return text
    try:
        code = marshal.loads(binascii.a2b_base64(text))
    except (EOFError, TypeError, ValueError):
        return text
    return CodeIn(code, {}) if isinstance(code, types.CodeType) else text


def _assets(thing: Any) -> dict[str, bytes]:
    """Returns the files in which a layer saves what is not among its weights."""
    save: Callable[[str], None] | None = getattr(thing, "save_assets", None)
    if save is None or not getattr(thing, "built", True):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        save(folder)
        files = sorted(each for each in Path(folder).rglob("*") if each.is_file())
        return {
            each.relative_to(folder).as_posix(): each.read_bytes() for each in files
        }


def without_names(config: Any) -> Any:
    """Replaces the names in a configuration by their order of appearance.

    Example:
        >>> without_names({"name": "dense_3", "inputs": ["dense_3", 0]})
        {'name': '#0', 'inputs': ['#0', 0]}
    """
    order: dict[str, str] = {}

    def collect(part: Any) -> None:
        if isinstance(part, dict):
            if isinstance(name := part.get("name"), str):
                order.setdefault(name, f"#{len(order)}")
            for value in part.values():
                collect(value)
        elif isinstance(part, list | tuple):
            for value in part:
                collect(value)

    def replace(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: replace(value) for key, value in part.items()}
        if isinstance(part, list | tuple):
            return [replace(value) for value in part]
        return order.get(part, part) if isinstance(part, str) else part

    collect(config)
    return replace(config)
