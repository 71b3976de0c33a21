"""Functions, classes and modules, by what they do instead of by their text.

A function counts by its compiled code, which is what runs even if its file has changed
since. Comments, places and names of files are no part of it. Python compiles the same
source to the same code, but another minor version of Python to other code.
"""

from __future__ import annotations

import builtins
import dis
import functools
import importlib
import importlib.util
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from keras_adaptive.study.ledger.reach.node import Node, NoValueError
from keras_adaptive.study.ledger.reach.origins import version_of

LOAD_NAME = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
FROM_CLOSURE = ("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF")
OF_ATTRIBUTE = ("LOAD_ATTR", "LOAD_METHOD")
AT_RUN_TIME = ("eval", "exec", "globals")
OF_THE_PLACE = ("__file__", "__loader__", "__name__", "__package__", "__spec__")
IN_A_FUNCTION = "<locals>"
METHODS = (types.FunctionType, classmethod, staticmethod, property)


@dataclass(frozen=True, eq=False)
class CodeIn:
    """Compiled code with the names that it sees.

    Args:
        code: The code.
        names: The global names that it sees.
    """

    code: types.CodeType
    names: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class PartOfModule:
    """Some names of a module of the user.

    Args:
        module: The module.
        names: The names that may be used; others of them are none of the module's.
    """

    module: types.ModuleType
    names: frozenset[str]


def function_node(thing: types.FunctionType) -> Node:
    """Returns a function with its code, defaults, closure and attributes."""
    home = thing.__globals__.get("__name__", "")
    version = version_of(home) if isinstance(home, str) else None
    qualified = thing.__code__.co_qualname
    bound = [
        *(("default", each) for each in thing.__defaults__ or ()),
        *sorted((thing.__kwdefaults__ or {}).items()),
        *_closure(thing),
    ]
    if version:
        inside = bound if IN_A_FUNCTION in qualified else ()
        return Node(f"function {home}.{qualified} of {version}", tuple(inside))
    own = sorted(vars(thing).items())
    code = CodeIn(thing.__code__, thing.__globals__)
    return Node("function", (("code", code), *bound, *own))


def _closure(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Yields the variables that a function closes over."""
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:
            yield name, "a variable without a value"
            continue
        yield name, _seen_by(code, name, value)


def code_node(thing: CodeIn) -> Node:
    """Returns code with its constants and the values of the global names it loads.

    Raises:
        NoValueError: If it finds out at run time which names it uses.
    """
    code = thing.code
    arguments = code.co_argcount + code.co_kwonlyargcount
    arguments += sum(bool(code.co_flags & flag) for flag in (0x04, 0x08))
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount
    label = (
        *(code.co_code.hex(), code.co_exceptiontable.hex(), counts, code.co_flags),
        *(code.co_names, code.co_varnames[:arguments]),
        *(code.co_cellvars, code.co_freevars),
    )
    edges = [
        ("", CodeIn(each, thing.names) if isinstance(each, types.CodeType) else each)
        for each in code.co_consts
    ]
    edges += [*_imports(thing), *_globals(thing)]
    return Node(f"code {label}", tuple(edges))


def _globals(thing: CodeIn) -> Iterator[tuple[str, Any]]:
    """Yields the global names that code loads, with their values."""
    loaded = dict.fromkeys(
        each.argval
        for each in dis.get_instructions(thing.code)
        if each.opname in LOAD_NAME
    )
    for name in loaded:
        if name in thing.names:
            if name not in OF_THE_PLACE:
                yield name, _seen_by(thing.code, name, thing.names[name])
        elif name in AT_RUN_TIME and hasattr(builtins, name):
            raise NoValueError(
                f"calls {name}, so what it uses is known only when it runs. Name the "
                "values that it uses, or pass them as arguments"
            )


def _seen_by(code: types.CodeType, name: str, value: Any) -> Any:
    """Returns a value as the code that loads it by a name can see it."""
    if not isinstance(value, types.ModuleType) or _goes_on(code, name):
        return value
    return PartOfModule(value, frozenset(_names(code)))


def _names(code: types.CodeType) -> Iterator[str]:
    """Yields the names of globals and attributes in code and in the code inside it."""
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from _names(each)


def _goes_on(code: types.CodeType, name: str) -> bool:
    """Says whether code uses a module otherwise than by an attribute of it."""
    steps = list(dis.get_instructions(code))
    loads = {*LOAD_NAME, *FROM_CLOSURE}
    return any(
        one.opname in loads and one.argval == name and other.opname not in OF_ATTRIBUTE
        for one, other in zip(steps, steps[1:], strict=False)
    )


def _imports(thing: CodeIn) -> Iterator[tuple[str, Any]]:
    """Yields the modules that code imports when it runs, as far as it can use them."""
    steps = list(dis.get_instructions(thing.code))
    seen = frozenset(_names(thing.code))
    for place, each in enumerate(steps):
        if each.opname != "IMPORT_NAME":
            continue
        level = steps[place - 2].argval
        name = "." * level + each.argval
        package = thing.names.get("__package__")
        try:
            full = importlib.util.resolve_name(name, package)
            top = full.partition(".")[0]
            if version := version_of(top):
                yield name, f"module {full} of {version}"
                continue
            yield name, PartOfModule(importlib.import_module(full), seen)
            yield name, PartOfModule(importlib.import_module(top), seen)
        except ImportError:
            yield name, "a module that cannot be imported"


def module_node(thing: types.ModuleType) -> Node:
    """Returns a module: by its version, or by everything that a user's module holds."""
    if version := version_of(thing.__name__):
        return Node(f"module {thing.__name__} of {version}")
    return _namespace(thing, set(vars(thing)))


def part_node(thing: PartOfModule) -> Node:
    """Returns the names of a module that code may use."""
    if version_of(thing.module.__name__):
        return module_node(thing.module)
    return _namespace(thing.module, {*thing.names, "__getattr__"}, thing.names)


def _namespace(
    module: types.ModuleType, names: set[str], seen: frozenset[str] | None = None
) -> Node:
    edges = []
    for name in sorted(names & set(vars(module))):
        value = vars(module)[name]
        if name.startswith("__") and not isinstance(value, types.FunctionType):
            continue
        if seen is not None and isinstance(value, types.ModuleType):
            value = PartOfModule(value, seen)
        edges.append((name, value))
    return Node("module", tuple(edges))


def class_node(thing: type) -> Node:
    """Returns a class with its bases, methods and attributes."""
    if version := version_of(thing.__module__):
        return Node(f"class {thing.__module__}.{thing.__qualname__} of {version}")
    attributes = sorted(
        (name, value)
        for name, value in vars(thing).items()
        if isinstance(value, METHODS) or not name.startswith("__")
    )
    bases = [("base", base) for base in (type(thing), *thing.__bases__)]
    return Node(f"class {thing.__name__}", (*bases, *attributes))


def wrapper_node(thing: Any) -> Node | None:
    """Returns what wraps functions, `None` for any other object."""
    if isinstance(thing, classmethod | staticmethod):
        return Node(type(thing).__name__, (("function", thing.__func__),))
    if isinstance(thing, property):
        parts = ("fget", thing.fget), ("fset", thing.fset), ("fdel", thing.fdel)
        return Node("property", parts)
    if isinstance(thing, functools.cached_property):
        return Node("cached property", (("function", thing.func),))
    if isinstance(thing, types.MethodType):
        return Node("method", (("self", thing.__self__), ("function", thing.__func__)))
    # A function behind lru_cache, tf.function or jax.jit, without what is cached.
    if callable(thing) and version_of(type(thing).__module__):
        inner = getattr(thing, "__wrapped__", None) or getattr(
            thing, "python_function", None
        )
        if inner is not None and inner is not thing:
            return Node(f"wrapper {type(thing).__qualname__}", (("wrapped", inner),))
    return None
