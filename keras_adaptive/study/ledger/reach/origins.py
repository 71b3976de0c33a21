"""Origins: tells code that a version covers from code that only its content covers."""

from __future__ import annotations

import importlib.metadata
import sys
import sysconfig
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePath, PurePosixPath

SOFTWARE = ("keras", "numpy", "tensorflow", "tensorflow-cpu", "jax", "torch")
"""The packages whose versions are part of every key."""

DECIDE_NO_NUMBER = (
    *("cli.py", "commands", "errors.py", "experiments", "renamed.py", "terminal.py"),
    *("study/analysis", "study/execution/cluster", "study/ledger", "study/reporting"),
    *("study/compare.py", "study/publish.py", "study/results.py", "study/study.py"),
)
"""The parts of the package that decide no number. Any other source file counts."""

INSTALLED = ("site-packages", "dist-packages")


@cache
def version_of(module: str) -> str | None:
    """Returns the version that covers the code of a module.

    Args:
        module: The full name of the module.

    Returns:
        The package with its version, or `None` if the module is the user's own: it may
        change while no version does.

    Example:
        >>> version_of("json.decoder"), version_of("__main__")
        ('python', None)
    """
    package, _, inside = module.partition(".")
    if package == "keras_adaptive":
        place = (
            PurePosixPath(*inside.split(".")) if inside else PurePosixPath("__init__")
        )
        outside = (PurePosixPath(part).with_suffix("") for part in DECIDE_NO_NUMBER)
        return None if any(place.is_relative_to(part) for part in outside) else package
    if package in SOFTWARE or package == "jaxlib":
        return package
    if module in sys.builtin_module_names:
        return "python"
    file = _file_of(module)
    if file is None:
        return None
    if any(part in INSTALLED for part in file.parts):
        return _installed_version(package)
    paths = sysconfig.get_paths()
    lies_in_python = any(
        file.is_relative_to(Path(paths[name]).resolve())
        for name in ("stdlib", "platstdlib")
    )
    return "python" if lies_in_python else None


def _file_of(module: str) -> PurePath | None:
    """Returns the file of a module, `python` itself if it is frozen into it."""
    found = sys.modules.get(module) or sys.modules.get(module.partition(".")[0])
    file = getattr(found, "__file__", None)
    if file is None:
        specification = getattr(found, "__spec__", None)
        frozen = getattr(specification, "origin", None) in ("frozen", "built-in")
        return Path(sysconfig.get_paths()["stdlib"]).resolve() if frozen else None
    return Path(file).resolve()


def _installed_version(package: str) -> str | None:
    with suppress(importlib.metadata.PackageNotFoundError):
        return f"{package} {importlib.metadata.version(package)}"
    versions = [
        f"{name} {importlib.metadata.version(name)}"
        for name in sorted(set(_distributions().get(package, ())))
    ]
    return ", ".join(versions) or None


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())
