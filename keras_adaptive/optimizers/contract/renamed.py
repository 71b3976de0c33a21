"""The former names of the contract, which keep working with a warning."""

from __future__ import annotations

import warnings

RENAMED = {
    "bounds": "constraints",
    "idle": "catch_up",
    "measure": "local_stats",
    "share": "reduce_stats",
    "shared_slots": "global_slots",
}
"""Members that subclasses define, by their former names."""


def warn_renamed(old: str, new: str, stacklevel: int) -> None:
    """Warns that a name has changed.

    Args:
        old: The former name.
        new: The name in its place.
        stacklevel: As in `warnings.warn`, counted from the caller.
    """
    warnings.warn(
        f"`{old}` is now called `{new}`; the former name will go with version 0.2.",
        DeprecationWarning,
        stacklevel=stacklevel + 1,
    )


def adopt_former_names(cls: type) -> None:
    """Gives members that a class defines by former names their names of today."""
    for old, new in RENAMED.items():
        if old in vars(cls):
            warn_renamed(f"{cls.__name__}.{old}", new, stacklevel=3)
            setattr(cls, new, vars(cls)[old])
