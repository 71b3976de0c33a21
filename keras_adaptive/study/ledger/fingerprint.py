"""Digests of everything that decides a run, equal in every process."""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import json
import os
import platform
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

import keras

import keras_adaptive

SOFTWARE = ("keras", "numpy", "tensorflow", "tensorflow-cpu", "jax", "torch")
ADDRESS = re.compile(r" at 0x[0-9a-f]+")

DECIDE_NO_NUMBER = (
    *("cli.py", "commands", "experiments"),
    *("study/analysis", "study/reporting"),
)
"""The parts of the package that decide no number. Any other source file counts."""


def digest(description: Any) -> str:
    """Returns the digest of a description.

    Args:
        description: A structure that JSON can hold; other values count by their `repr`,
            without addresses.

    Example:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    text = json.dumps(description, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """Returns the number or the text that replaces a value that JSON cannot hold."""
    return value.item() if hasattr(value, "item") else ADDRESS.sub("", repr(value))


@cache
def installed_software() -> dict[str, str]:
    """Returns the versions of the installed packages that decide the numbers.

    The version of keras-adaptive carries a digest of its sources, since these change
    between two releases.
    """
    sources = source_digest(Path(inspect.getfile(keras_adaptive)).parent)
    versions = {"keras-adaptive": f"{keras_adaptive.__version__}+{sources[:8]}"}
    for package in SOFTWARE:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def source_digest(package: Path) -> str:
    """Returns the digest of all sources that decide a number.

    Args:
        package: The folder of the package.
    """
    outside = [package / part for part in DECIDE_NO_NUMBER]
    return digest(
        sorted(
            file.read_text("utf-8")
            for file in package.rglob("*.py")
            if not any(file.is_relative_to(part) for part in outside)
        )
    )


def engine() -> dict[str, str]:
    """Returns the backend, its precision and the versions of the software."""
    return {
        "engine": "fit",
        "backend": keras.backend.backend(),
        "floatx": keras.config.floatx(),
        **{f"version.{name}": text for name, text in installed_software().items()},
    }


@cache
def machine() -> dict[str, str]:
    """Returns the hardware and the system, which are not part of a run's key."""
    return {
        "machine.processors": f"{os.cpu_count()} of {_processor()}",
        "machine.accelerators": ", ".join(_accelerators()) or "none",
        "machine.system": platform.platform(),
        "machine.python": platform.python_version(),
    }


def _processor() -> str:
    """Returns the name of the processor as the system tells it."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text("utf-8").splitlines() if described.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()


def _accelerators() -> list[str]:
    if keras.backend.backend() == "torch":
        import torch

        return [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    devices = keras.distribution.list_devices()
    return [device for device in devices if not device.startswith("cpu")]


def describe(thing: Any) -> Any:
    """Describes a function by its source and an object of Keras by its configuration.

    Names that Keras makes up, such as `dense_3`, are replaced by their order. Classes
    whose source no version covers are described by their source as well.

    Args:
        thing: A model, a loss, an optimizer, a function, or a name.

    Returns:
        A structure for `digest`.
    """
    if isinstance(thing, str) or thing is None:
        return thing
    if isinstance(thing, partial):
        return [describe(thing.func), thing.args, thing.keywords]
    if inspect.isroutine(thing) or isinstance(thing, type):
        return source(thing)
    if not hasattr(thing, "get_config"):
        return [source(type(thing)), vars(thing)]
    described = {"config": without_names(_config(thing))}
    parts = list(_with_sublayers(thing))
    described["sources"] = [source(type(part)) for part in parts if _foreign(part)]
    if isinstance(thing, keras.Model):
        weights = thing.weights
        described["weights"] = [
            [list(weight.shape), str(weight.dtype), bool(weight.trainable)]
            for weight in weights
        ]
    return described


def _config(thing: Any) -> Any:
    """Returns the configuration of an object of Keras, or else that of its layers."""
    try:
        return keras.saving.serialize_keras_object(thing)
    except NotImplementedError:
        name = type(thing).__qualname__
        return [name, *map(_config, getattr(thing, "layers", ()))]


def _with_sublayers(thing: Any) -> Iterator[Any]:
    yield thing
    for layer in getattr(thing, "layers", ()):
        yield from _with_sublayers(layer)


def _foreign(part: Any) -> bool:
    """Says whether no version in a run's key covers the source of an object's class."""
    library, _, inside = type(part).__module__.partition(".")
    if library != "keras_adaptive":
        return library != "keras"
    place = PurePosixPath(*inside.split("."))
    return any(place.is_relative_to(folder) for folder in DECIDE_NO_NUMBER)


def source(thing: Callable) -> str:
    """Returns the source of a function or class, or else its compiled code.

    Example:
        >>> source(digest).startswith("def digest")
        True
    """
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        code = getattr(thing, "__code__", None)
        if code is None:
            return getattr(thing, "__qualname__", type(thing).__qualname__)
        constants = ADDRESS.sub("", repr(code.co_consts))
        return f"{code.co_code.hex()} {code.co_names} {constants}"


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
