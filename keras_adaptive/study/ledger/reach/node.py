"""Nodes: one object each, without the objects that it reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Node:
    """An object as a label and the objects that it reaches.

    Args:
        label: Everything that the object is by itself.
        edges: The objects that it reaches, each with the way to it.
        ordered: Whether the order of the edges counts.
    """

    label: str
    edges: tuple[tuple[str, Any], ...] = ()
    ordered: bool = True


class NoValueError(Exception):
    """An object's value cannot be known.

    The message says why, as the end of a sentence about the object.
    """
