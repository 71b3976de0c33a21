"""Digests of what decides a run: the same for the same thing, in any process."""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import json
import os
import platform
import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import keras

import keras_adaptive

SOFTWARE = (
    *("keras-adaptive", "keras", "numpy"),
    *("tensorflow", "tensorflow-cpu", "jax", "torch"),
)
ADDRESS = re.compile(r" at 0x[0-9a-f]+")

DECIDE_NO_NUMBER = (
    *("cli.py", "commands", "experiments"),
    *("study/analysis", "study/reporting"),
)
"""The parts of the package in which nothing is trained; new ones are not among them."""


def digest(description: Any) -> str:
    """Returns the digest of a description made of what JSON can hold.

    Example:

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(description, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """Returns a number or the text of what JSON cannot hold."""
    return value.item() if hasattr(value, "item") else ADDRESS.sub("", repr(value))


@cache
def installed_software() -> dict[str, str]:
    """Returns the versions of the installed packages that decide the numbers.

    That of keras-adaptive carries a digest of its sources, which change between two
    releases.
    """
    versions = {}
    for package in SOFTWARE:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    package = Path(inspect.getfile(keras_adaptive)).parent
    versions["keras-adaptive"] += f"+{source_digest(package)[:8]}"
    return versions


def source_digest(package: Path) -> str:
    """Returns the digest of the sources that decide a number, wherever they lie.

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
    """Returns what runs the training: the backend, its precision, the versions."""
    return {
        "engine": "fit",
        "backend": keras.backend.backend(),
        "floatx": keras.config.floatx(),
        **{f"version.{name}": text for name, text in installed_software().items()},
    }


@cache
def machine() -> dict[str, str]:
    """Returns on what the training runs: recorded, but no part of a run's key."""
    return {
        "machine.processors": f"{os.cpu_count()} of {_processor()}",
        "machine.accelerators": ", ".join(_accelerators()) or "none",
        "machine.system": platform.platform(),
        "machine.python": platform.python_version(),
    }


def _processor() -> str:
    """Returns the name of the processor, as far as the system tells it."""
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


def describe(thing: str | Callable | keras.Model) -> Any:
    """Describes a function, or an object of Keras: its configuration.

    Names that Keras makes up, such as `dense_3`, count for what they name only. What
    is not Keras's own is described by its source as well.

    Args:
        thing: A model, a loss, an optimizer, a function, or a name.

    Returns:
        What JSON can hold, for `digest`.
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
    """Returns what an object of Keras is made from, or failing that its layers are."""
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
    return type(part).__module__.partition(".")[0] not in ("keras", "keras_adaptive")


def source(thing: Callable) -> str:
    """Returns the source of a function or class, or its compiled code.

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
