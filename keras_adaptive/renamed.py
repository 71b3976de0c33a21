"""Old names that keep working, with a DeprecationWarning that says the new one."""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeVar

Class = TypeVar("Class", bound=type)


class _MovedModules(MetaPathFinder, Loader):
    """Imports modules by their old names.

    Such a module takes all its attributes from the one at the new place.

    Args:
        places: The new name of each module by its old name.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self.places = places

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Returns how to import a module that has moved, `None` for all others."""
        if fullname not in self.places:
            return None
        has_parts = any(name.startswith(f"{fullname}.") for name in self.places)
        return ModuleSpec(fullname, self, is_package=has_parts)

    def create_module(self, spec: ModuleSpec) -> None:
        """Leaves the creation of the module to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Warns, and connects the module to the one at the new place."""
        old, new = module.__name__, self.places[module.__name__]
        warnings.warn(
            f"{old} is deprecated; import from {new}.", DeprecationWarning, stacklevel=2
        )
        moved = importlib.import_module(new)
        module.__doc__ = moved.__doc__
        module.__dict__["__getattr__"] = functools.partial(getattr, moved)


def moved_modules(places: Mapping[str, str]) -> None:
    """Makes modules importable by their old names.

    Args:
        places: The new name of each module by its old name. The package that holds
            the old names calls this when it is imported.
    """
    sys.meta_path.append(_MovedModules(places))


def renamed_argument(old: str, new: str) -> Callable[[Class], Class]:
    """Makes a class accept an argument, and give an attribute, by its old name.

    Args:
        old: The old name.
        new: The new name, of both the argument and the attribute.

    Returns:
        A decorator for the class.
    """

    def warn(what: str) -> None:
        warnings.warn(
            f"{what}, {old!r}, is deprecated; use {new!r}.",
            DeprecationWarning,
            stacklevel=3,
        )

    def attribute(self: Any) -> Any:
        warn(f"An attribute of {type(self).__name__}")
        return getattr(self, new)

    def decorate(cls: Class) -> Class:
        initialize = cls.__init__  # type: ignore[misc]

        @functools.wraps(initialize)
        def accept(self: Any, *args: Any, **options: Any) -> None:
            if old in options:
                warn(f"An argument of {cls.__name__}")
                if new in options:
                    raise TypeError(f"Give only one of the names {old!r} and {new!r}.")
                options[new] = options.pop(old)
            initialize(self, *args, **options)

        cls.__init__ = accept  # type: ignore[misc]
        setattr(cls, old, property(attribute, doc=f"Deprecated: use `{new}`."))
        return cls

    return decorate
