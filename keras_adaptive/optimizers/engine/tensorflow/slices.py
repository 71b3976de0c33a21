"""Slots of small variables that share a flat variable."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class Slice:
    """A slot of one variable that is a part of a flat one.

    Args:
        name: The name of the slot.
        flat: The variable that it is a part of.
        start: The place of its first entry.
        shape: The shape of the slot.
    """

    trainable = False
    aggregation = "none"

    def __init__(
        self, name: str, flat: keras.Variable, start: int, shape: tuple[int, ...]
    ) -> None:
        self.name = name
        self.path = f"{flat.path.rpartition('/')[0]}/{name}".lstrip("/")
        self.flat = flat
        self.start = start
        self.shape = shape
        self.dtype = flat.dtype

    @property
    def value(self) -> tf.Tensor:
        """Its values as a tensor."""
        return tf.convert_to_tensor(self)

    @property
    def ndim(self) -> int:
        """The number of its axes."""
        return len(self.shape)

    @property
    def stop(self) -> int:
        """The place after its last entry."""
        return self.start + int(np.prod(self.shape))

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> tf.Tensor:
        part = tf.convert_to_tensor(self.flat)[self.start : self.stop]
        return tf.cast(tf.reshape(part, self.shape), dtype or self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.numpy(), dtype)

    def numpy(self) -> np.ndarray:
        """Returns its values."""
        return tf.convert_to_tensor(self).numpy()

    def assign(self, value: Any) -> None:
        """Overwrites it, at the price of the whole flat variable."""
        value = tf.cast(tf.convert_to_tensor(value), self.dtype)
        whole = tf.convert_to_tensor(self.flat)
        parts = [whole[: self.start], tf.reshape(value, [-1]), whole[self.stop :]]
        self.flat.assign(tf.concat(parts, axis=0))

    def assign_add(self, value: Any) -> None:
        """Adds a value to it, at the same price."""
        self.assign(self.value + tf.cast(tf.convert_to_tensor(value), self.dtype))

    def assign_sub(self, value: Any) -> None:
        """Subtracts a value from it, at the same price."""
        self.assign(self.value - tf.cast(tf.convert_to_tensor(value), self.dtype))

    def __getitem__(self, place: Any) -> tf.Tensor:
        return self.value[place]


for _operator in (
    *("__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__"),
    *("__truediv__", "__rtruediv__", "__pow__", "__rpow__", "__neg__", "__abs__"),
    *("__matmul__", "__rmatmul__", "__lt__", "__le__", "__gt__", "__ge__"),
):

    def _of_tensors(self: Slice, *others: Any, _name: str = _operator) -> Any:
        return getattr(self.value, _name)(*others)

    setattr(Slice, _operator, _of_tensors)


@dataclasses.dataclass(frozen=True)
class Group:
    """Small variables that are updated together.

    Args:
        indices: The variables.
        sizes: The number of entries of each.
        slots: Their slots by name, flat, one variable after the other.
    """

    indices: list[int]
    sizes: list[int]
    slots: dict[str, keras.Variable]

    def slices(
        self, variables: Sequence[Any], named: Callable[[Any, str], str]
    ) -> Iterator[tuple[int, str, Slice]]:
        """Yields the index of a variable, the name of a slot, and its part of it.

        Args:
            variables: The variables of the group.
            named: Returns the name of a variable's slot.
        """
        for name, whole in self.slots.items():
            starts = itertools.accumulate(self.sizes[:-1], initial=0)
            places = zip(self.indices, variables, starts, strict=True)
            for i, variable, start in places:
                shape = tuple(variable.shape)
                yield i, name, Slice(named(variable, name), whole, start, shape)


def flat(tensors: Sequence[Any]) -> tf.Tensor:
    """Returns the entries of tensors, one tensor after the other."""
    return tf.concat([reshaped(tensor, (-1,)) for tensor in tensors], axis=0)


def reshaped(tensor: Any, shape: tuple[int, ...]) -> tf.Tensor:
    """Returns a tensor of another shape.

    It adds no operation for vectors, which are many in groups.
    """
    tensor = tf.convert_to_tensor(tensor)
    return tensor if len(shape) == tensor.shape.rank == 1 else tf.reshape(tensor, shape)
