"""Plain values, arrays, containers, and objects by what pickle would keep of them."""

from __future__ import annotations

import copyreg
import functools
import hashlib
import threading
import types
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_adaptive.study.ledger.reach.functions import (
    CodeIn,
    PartOfModule,
    class_node,
    code_node,
    function_node,
    module_node,
    part_node,
    wrapper_node,
)
from keras_adaptive.study.ledger.reach.keras_objects import keras_node
from keras_adaptive.study.ledger.reach.node import Node, NoValueError
from keras_adaptive.study.ledger.reach.origins import version_of

PLAIN = (
    *(bool, bytes, complex, float, int, str),
    *(type(None), type(...), type(NotImplemented)),
)
LOCKS = tuple({type(threading.Lock()), type(threading.RLock())})
SLOTS = (types.MemberDescriptorType, types.GetSetDescriptorType)
HOLD_NO_VALUE = (*LOCKS, *SLOTS)
CONTAINERS = (list, tuple, dict, set, frozenset)
WITH_TENSORS = ("jax", "jaxlib", "keras", "tensorflow", "torch")


def node_of(thing: Any) -> Node:
    """Returns the node of any object.

    Raises:
        NoValueError: If the object cannot be told from others by its value.
    """
    if type(thing) in PLAIN:
        return Node(f"{type(thing).__name__} {thing!r}")
    if isinstance(thing, CodeIn):
        return code_node(thing)
    if isinstance(thing, PartOfModule):
        return part_node(thing)
    if isinstance(thing, types.ModuleType):
        return module_node(thing)
    if isinstance(thing, types.FunctionType):
        return function_node(thing)
    if isinstance(thing, types.CodeType):
        return code_node(CodeIn(thing, {}))
    if isinstance(thing, type) and not isinstance(thing, types.GenericAlias):
        return class_node(thing)
    if isinstance(thing, HOLD_NO_VALUE) or type(thing).__module__ == "_abc":
        return Node(type(thing).__name__)
    if isinstance(thing, weakref.ref):
        return Node("weak reference", (("object", thing()),))
    return (
        _array_node(thing)
        or _container_node(thing)
        or wrapper_node(thing)
        or keras_node(thing)
        or _reduced_node(thing)
    )


def _array_node(thing: Any) -> Node | None:
    """Returns an array, a tensor or a variable by its content."""
    if isinstance(thing, keras.KerasTensor):
        return Node(f"symbolic {thing.dtype} {thing.shape}")
    if isinstance(thing, np.ma.MaskedArray):
        return None
    if isinstance(thing, np.ndarray | np.generic):
        return _content_node(thing, "array")
    if isinstance(thing, keras.Variable):
        values = keras.ops.convert_to_numpy(thing.value)
        return _content_node(values, f"variable, trainable: {thing.trainable}")
    library = type(thing).__module__.partition(".")[0]
    if library not in WITH_TENSORS or not hasattr(thing, "__array__"):
        return None
    try:
        if library == "torch":
            thing = thing.detach().cpu()
        elif hasattr(thing, "numpy"):
            thing = thing.numpy()
        return _content_node(np.asarray(thing), "tensor")
    except (AttributeError, NotImplementedError, TypeError) as error:
        raise NoValueError(f"is a tensor without values ({error})") from error


def _content_node(array: Any, kind: str) -> Node:
    label = f"{kind} {np.shape(array)} {array.dtype.str}"
    if array.dtype.hasobject:
        return Node(label, (("values", np.asarray(array).tolist()),))
    content = np.ascontiguousarray(array).tobytes()
    return Node(f"{label} {hashlib.sha256(content).hexdigest()}")


def _container_node(thing: Any) -> Node | None:
    """Returns a container of Python, or one by which a library tracks its content."""
    cls = type(thing)
    version = version_of(cls.__module__)
    tracks = isinstance(thing, CONTAINERS) and version not in (None, "python")
    if cls in (dict, OrderedDict, types.MappingProxyType) or (
        tracks and isinstance(thing, Mapping)
    ):
        return _mapping_node(thing)
    if cls in (list, tuple) or (tracks and isinstance(thing, list | tuple)):
        kind = "tuple" if isinstance(thing, tuple) else "list"
        if all(type(each) in PLAIN for each in thing):
            text = repr([*thing]).encode()
            return Node(f"{kind} of values {hashlib.sha256(text).hexdigest()}")
        return Node(kind, tuple((f"[{n}]", each) for n, each in enumerate(thing)))
    if cls in (set, frozenset) or (tracks and isinstance(thing, set | frozenset)):
        return Node("set", tuple(("", each) for each in thing), ordered=False)
    return None


def _mapping_node(thing: Mapping[Any, Any]) -> Node:
    if all(type(key) is str for key in thing):
        pairs = tuple((f"[{key!r}]", thing[key]) for key in sorted(thing))
        return Node("dictionary", pairs)
    pairs = tuple((f"[{key!r:.40}]", (key, value)) for key, value in thing.items())
    return Node("dictionary of pairs", tuple(("", pair) for _, pair in pairs), False)


def _reduced_node(thing: Any) -> Node:
    """Returns an object as pickle would take it apart."""
    cls = type(thing)
    try:
        reduce = copyreg.dispatch_table.get(cls)
        reduced = reduce(thing) if reduce else thing.__reduce_ex__(4)
    except Exception as error:
        raise NoValueError(
            f"is a {cls.__name__}, whose value cannot be known ({error})"
        ) from error
    if isinstance(reduced, str):
        home = getattr(thing, "__module__", None) or cls.__module__
        return Node(f"object {home}.{reduced} of {version_of(home)}")
    parts: list[Any] = [*reduced, None, None, None]
    make, arguments, state, items, pairs = parts[:5]
    return Node(
        "object",
        (
            ("class", cls),
            ("made by", make),
            *(("part", each) for each in arguments),
            ("state", _without_cached(cls, state)),
            ("items", list(items or ())),
            ("pairs", dict(pairs or ())),
        ),
    )


def _without_cached(cls: type, state: Any) -> Any:
    """Leaves out what cached properties have computed from the rest."""
    if type(state) is not dict:
        return state
    return {
        name: value
        for name, value in state.items()
        if not isinstance(getattr(cls, str(name), None), functools.cached_property)
    }
