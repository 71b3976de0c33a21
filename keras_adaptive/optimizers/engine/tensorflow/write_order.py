"""The order in which to overwrite a variable and its slots without a copy.

XLA on a CPU writes each array in a loop of its own, and does not order its loops. If
one loop needs the old values of an array that another loop overwrites, XLA copies them
first. Lion's parameter and its momentum, for example, both need the old momentum. In
two calls, first for the parameter and then for the momentum, nothing has to be copied.
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
        reads: For each array, the arrays whose old values its loop reads, if the new
            values of all others are at hand.
        needs: For each array, the old values that its new ones depend on.
        large: The arrays whose copies count.

    Returns:
        The names by stage, in order. No stage needs what an earlier one overwrites.
    """

    def copies(together: Sequence[str]) -> int:
        read = {old for name in together for old in reads[name] - {name}}
        return len(read & large & set(together))

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
    """Finds `reads` and `needs` in a graph.

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
