"""In what order to overwrite a variable and its slots, so that nothing is copied.

XLA on a CPU writes each array in a loop of its own. Where one loop needs the old
values of what another overwrites, XLA copies these first, because it does not order
its loops: Lion's parameter and its momentum both need the old momentum. In two calls,
first for the parameter and then for the momentum, nothing has to be copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import tensorflow as tf


def write_order(
    names: Sequence[str],
    reads: Mapping[str, Set[str]],
    needs: Mapping[str, Set[str]],
    large: Set[str],
) -> list[list[str]]:
    """Splits an update where that saves the copy of a large array.

    Args:
        names: The arrays to overwrite.
        reads: Of which arrays the loop for an array reads the old values, while the
            new ones of all others are at hand, by the name of the array.
        needs: On which old values its new ones depend.
        large: The arrays whose copies count.

    Returns:
        The names by stage, in order; none needs what a stage before it overwrites.
    """

    def copies(together: Sequence[str]) -> int:
        read = {old for name in together for old in reads[name] - {name}}
        return len(read & large.intersection(together))

    def with_what_needs(name: str) -> list[str]:
        found, waiting = {name}, [name]
        while waiting:
            old = waiting.pop()
            new = [n for n in names if old in needs[n] and n not in found]
            found.update(new)
            waiting += new
        return [n for n in names if n in found]

    def after(first: Sequence[str]) -> list[str]:
        return [name for name in names if name not in first]

    first = min(
        map(with_what_needs, names), key=lambda part: copies(part) + copies(after(part))
    )
    if copies(first) + copies(after(first)) >= copies(names):
        return [list(names)]
    return [
        stage
        for part in (first, after(first))
        for stage in write_order(part, reads, needs, large)
    ]


def dependencies(
    old: Mapping[str, tf.Tensor], new: Mapping[str, tf.Tensor]
) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Looks in a graph for `reads` and `needs`.

    Args:
        old: The old values by name.
        new: The new values, computed from the old ones.
    """
    names = {tensor.ref(): name for name, tensor in old.items()}
    results = {tensor.ref() for tensor in new.values()}

    def reached(start: tf.Tensor, stops: set) -> set[str]:
        found, seen, waiting = set(), set(), [start]
        while waiting:
            tensor = waiting.pop()
            if tensor.ref() in names:
                found.add(names[tensor.ref()])
            elif tensor.ref() not in seen and tensor.ref() not in stops:
                seen.add(tensor.ref())
                waiting += tensor.op.inputs
        return found

    reads = {n: reached(t, results - {t.ref()}) for n, t in new.items()}
    return reads, {n: reached(t, set()) for n, t in new.items()}
