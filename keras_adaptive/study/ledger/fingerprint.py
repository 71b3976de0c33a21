"""Digests of everything that decides a run, equal in every process."""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import json
import os
import platform
import re
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal

import keras

import keras_adaptive
from keras_adaptive.study.ledger.reach.origins import DECIDE_NO_NUMBER, SOFTWARE

Engine = Literal["fit", "compiled"]

ADDRESS = re.compile(r" at 0x[0-9a-f]+")


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


def described(engine: Engine = "fit") -> dict[str, str]:
    """Returns an engine, its backend, its precision and the versions of the software.

    Args:
        engine: `"compiled"` for programs of JAX, `"fit"` for the backend of Keras.
    """
    return {
        "engine": engine,
        "backend": "jax" if engine == "compiled" else keras.backend.backend(),
        "floatx": keras.config.floatx(),
        "epsilon": repr(keras.config.epsilon()),
        "image_data_format": keras.config.image_data_format(),
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
