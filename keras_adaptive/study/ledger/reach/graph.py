"""Digests of graphs of objects, equal for equal values in every process.

Objects that reach each other in a circle get their digests together: each starts from
its label and takes in those of its neighbours until no two of them can be told apart
any more. So neither addresses nor the order of the walk are part of a digest.
"""

from __future__ import annotations

import hashlib
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keras_adaptive.errors import InputError
from keras_adaptive.study.ledger.reach.node import Node, NoValueError
from keras_adaptive.study.ledger.reach.objects import node_of


def describe(thing: Any, what: str = "") -> str:
    """Returns a digest of everything that an object reaches, by value.

    Functions count by code, closure, defaults and the globals that they use, classes
    by their methods and attributes, objects by their attributes, Keras's objects by
    configuration and weights, arrays by content, libraries by version. Neither the
    order of dictionaries and sets nor the place of a file counts.

    Args:
        thing: A model, a loss, an optimizer, a function, or any other object.
        what: What it is, for the message of an error.

    Raises:
        InputError: If it reaches an object whose value cannot be known.

    Example:
        >>> scale = 2.0
        >>> before = describe(lambda x: scale * x)
        >>> scale = 3.0
        >>> before == describe(lambda x: scale * x)
        False
    """
    graph = _Graph(what or repr(thing))
    graph.explore(thing)
    return graph.digest(id(thing))


def _hash(*parts: str) -> str:
    joined = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        joined.update(f"{len(encoded)} ".encode() + encoded)
    return joined.hexdigest()


@dataclass
class _Graph:
    """The objects that one object reaches, by their identity."""

    what: str
    nodes: dict[int, Node] = field(default_factory=dict)
    reached_by: dict[int, tuple[int, str]] = field(default_factory=dict)

    def explore(self, root: Any) -> None:
        """Finds all objects."""
        waiting = [root]
        while waiting:
            thing = waiting.pop()
            if id(thing) in self.nodes:
                continue
            try:
                node = self.nodes[id(thing)] = node_of(thing)
            except NoValueError as error:
                raise self._error(thing, error) from error
            # A node keeps the objects that it leads to, so that no identity is reused.
            for way, other in node.edges:
                if id(other) not in self.nodes:
                    self.reached_by.setdefault(id(other), (id(thing), way))
                    waiting.append(other)

    def _error(self, thing: Any, error: NoValueError) -> InputError:
        ways: list[str] = []
        place = id(thing)
        while place in self.reached_by:
            place, way = self.reached_by[place]
            ways.insert(0, way)
        shown = " → ".join(way for way in ways if way)
        return InputError(
            f"{self.what}: {shown or 'it'} {error}. A study must know everything that "
            "decides a run, to tell which runs are done already. Make such an object "
            "inside the function that uses it, or give its class a method __reduce__ "
            "or __getstate__ that returns what decides a run."
        )

    def digest(self, root: int) -> str:
        """Returns the digest of an object."""
        done: dict[int, str] = {}
        for circle in _circles(root, self._neighbours()):
            done |= self._digests(circle, done)
        return done[root][:16]

    def _neighbours(self) -> dict[int, list[int]]:
        return {
            place: [id(other) for _, other in node.edges]
            for place, node in self.nodes.items()
        }

    def _digests(self, circle: Sequence[int], done: dict[int, str]) -> dict[int, str]:
        """Returns the digests of objects that all reach each other."""
        (first, *others) = circle
        alone = not others and all(
            id(other) != first for _, other in self.nodes[first].edges
        )
        if alone:
            return {first: self._mixed(first, done)}
        colours = {place: _hash(self.nodes[place].label) for place in circle}
        count = 0
        while len(set(colours.values())) > count:
            count = len(set(colours.values()))
            known = ChainMap(colours, done)
            colours = {place: self._mixed(place, known) for place in circle}
        together = sorted(set(colours.values()))
        return {place: _hash(colours[place], *together) for place in circle}

    def _mixed(self, place: int, known: Mapping[int, str]) -> str:
        node = self.nodes[place]
        parts = [_hash(way, known[id(other)]) for way, other in node.edges]
        return _hash(node.label, *(parts if node.ordered else sorted(parts)))


def _circles(root: int, neighbours: Mapping[int, Sequence[int]]) -> Iterator[list[int]]:
    """Yields the groups of places that reach each other, those reached by others first.

    This is Tarjan's algorithm without recursion.
    """
    number: dict[int, int] = {root: 0}
    lowest: dict[int, int] = {root: 0}
    open_places: dict[int, None] = {root: None}
    path = [(root, iter(neighbours[root]))]
    while path:
        place, others = path[-1]
        for other in others:
            if other not in number:
                number[other] = lowest[other] = len(number)
                open_places[other] = None
                path.append((other, iter(neighbours[other])))
                break
            if other in open_places:
                lowest[place] = min(lowest[place], number[other])
        else:
            path.pop()
            if path:
                above = path[-1][0]
                lowest[above] = min(lowest[above], lowest[place])
            if lowest[place] == number[place]:
                circle = []
                while place in open_places:
                    circle.append(open_places.popitem()[0])
                yield circle
