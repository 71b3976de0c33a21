"""Dense updates on TensorFlow in few passes over memory, by the same rules.

`fit` on a CPU does not compile, so each operation of a rule is a pass over memory of
its own, and each variable pays for a dozen operations. Here XLA compiles the rule by
itself, inside an ordinary step:

- large variables are written in place with their slots, up to sixteen of one shape in
  a call; one compilation serves all such calls;
- small variables of one kind share flat slots and one call. That takes a rule which
  treats each entry by itself; whether it does is tried out.

Where it cannot be had, `update` leaves all to `AdaptiveOptimizer.update_step`: under
`tf.distribute`, without XLA, with op determinism, or if the environment variable
`KERAS_ADAPTIVE_FUSED` is 0. Inside of XLA the same code runs without a call of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled

from keras_adaptive.optimizers.contract.slot import PARAMETER, Hyper, Slot
from keras_adaptive.optimizers.engine.tensorflow import rows
from keras_adaptive.optimizers.engine.tensorflow.write_order import dependencies, stages

SMALL = 16_384
"""Variables with fewer entries share flat slots."""

STAGED = 2**17
"""Copies of arrays with fewer entries stay in the cache, and save calls."""

ALIKE = 16
"""How many larger variables of one shape share a call at most."""


def available() -> bool:
    """Whether rules can be compiled by themselves here."""
    return (
        os.environ.get("KERAS_ADAPTIVE_FUSED", "1") != "0"
        and not is_op_determinism_enabled()
        and not tf.distribute.has_strategy()
        and _xla_works()
    )


@functools.cache
def _xla_works() -> bool:
    with tf.init_scope():
        try:
            tf.function(lambda x: x + 1.0, jit_compile=True)(tf.constant(1.0))
        except tf.errors.OpError:
            return False
    return True


class Slice:
    """A slot of one variable that is a part of a flat one.

    Args:
        name: Its name.
        flat: The variable that it is a part of.
        start: The place of its first entry.
        shape: Its shape.
    """

    trainable = False

    def __init__(self, name, flat: keras.Variable, start: int, shape: tuple[int, ...]):
        self.name = self.path = name
        self.flat = flat
        self.start = start
        self.shape = shape
        self.dtype = flat.dtype

    @property
    def stop(self) -> int:
        return self.start + int(np.prod(self.shape))

    def __tf_tensor__(self, dtype=None, name=None) -> tf.Tensor:
        part = tf.convert_to_tensor(self.flat)[self.start : self.stop]
        return tf.cast(tf.reshape(part, self.shape), dtype or self.dtype)

    def __array__(self, dtype=None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.numpy(), dtype)

    def numpy(self) -> np.ndarray:
        return tf.convert_to_tensor(self).numpy()

    def assign(self, value) -> None:
        """Overwrites it, at the price of the whole flat variable."""
        value = tf.cast(tf.convert_to_tensor(value), self.dtype)
        flat = tf.convert_to_tensor(self.flat)
        parts = [flat[: self.start], tf.reshape(value, [-1]), flat[self.stop :]]
        self.flat.assign(tf.concat(parts, axis=0))


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


class FusedUpdates:
    """The dense updates of an optimizer.

    Args:
        optimizer: The `AdaptiveOptimizer` that it belongs to.

    Attributes:
        groups: The small variables, by kind.
    """

    def __init__(self, optimizer):
        self.optimizer = optimizer
        self.groups: list[Group] = []
        self._compiled: dict[tuple, tf.types.experimental.PolymorphicFunction] = {}
        self._found_stages: dict[tuple, list[list[str]]] = {}

    # Groups.

    def build(self) -> dict[str, dict[int, Slice]]:
        """Groups the small variables.

        Returns:
            Their slots, by name and index.
        """
        slices: dict[str, dict[int, Slice]] = {}
        if not available() or self.optimizer.cautious:
            return slices
        kinds = self._kinds().values()
        self.groups = [self._group(indices) for indices in kinds if len(indices) > 1]
        for group in self.groups:
            for name, flat in group.slots.items():
                starts = itertools.accumulate(group.sizes[:-1], initial=0)
                for i, start in zip(group.indices, starts, strict=True):
                    variable = self.optimizer._trainable_variables[i]
                    slices.setdefault(name, {})[i] = Slice(
                        f"{variable.name}_{name}", flat, start, tuple(variable.shape)
                    )
        return slices

    def _kinds(self) -> dict[tuple, list[int]]:
        optimizer = self.optimizer
        kinds: dict[tuple, list[int]] = {}
        entrywise: dict[int, bool] = {}
        for i, variable in enumerate(optimizer._trainable_variables):
            if optimizer._overwrite_variable_with_gradient(variable):
                continue
            part = optimizer._part(i)
            if np.prod(variable.shape) >= SMALL:
                continue
            if id(part) not in entrywise:
                entrywise[id(part)] = self._treats_entries_alone(i)
            if entrywise[id(part)]:
                kind = (
                    id(part),
                    optimizer._decays(i),
                    keras.backend.standardize_dtype(variable.dtype),
                    rows.raw(variable).device,
                )
                kinds.setdefault(kind, []).append(i)
        return kinds

    def _group(self, indices: list[int]) -> Group:
        optimizer = self.optimizer
        variables = [optimizer._trainable_variables[i] for i in indices]
        sizes = [int(np.prod(variable.shape)) for variable in variables]
        slots = {
            name: optimizer._add_like(
                variables[0],
                name,
                Slot(slot.initial, shape_of=lambda _: (sum(sizes),)),
                values=lambda: _flat(variables),
            )
            for name, slot in optimizer._part(indices[0]).slots.items()
        }
        return Group(indices, sizes, slots)

    def _treats_entries_alone(self, i: int) -> bool:
        """Whether the rule does the same to entries together as apart."""
        optimizer = self.optimizer
        part = optimizer._part(i)
        slots = part.slots.values()
        if part.dense_only or any(slot.row_wise or slot.shape_of for slot in slots):
            return False
        with tf.init_scope():
            return all(_is_entrywise(optimizer, i, scale) for scale in (1e-3, 1e3))

    # Updates.

    def update(self, pairs: list[tuple], learning_rate) -> list[tuple]:
        """Updates what it can.

        Args:
            pairs: Gradients and variables.
            learning_rate: The learning rate of this step.

        Returns:
            The pairs that are left.
        """
        optimizer = self.optimizer
        gradients = {optimizer._get_variable_index(v): g for g, v in pairs}
        dense = {i: g for i, g in gradients.items() if not isinstance(g, rows.Rows)}
        moment = self._moment(learning_rate)
        done: set[int] = set()
        for group in self.groups:
            present = tuple(i for i in group.indices if i in dense)
            if present:
                self._update_group(group, present, dense, moment)
                done.update(present)
        left = [i for i in dense if i not in done]
        for kind, alike in self._large(left) if self._compiles else ():
            self._update_alike(kind, alike, dense, moment)
            done.update(alike)
        return [
            (g, v) for g, v in pairs if optimizer._get_variable_index(v) not in done
        ]

    def _moment(self, learning_rate) -> dict[str, Any]:
        """What a step depends on beside the variables, as tensors."""
        before, after = self.optimizer._shared_values()
        return {
            "learning_rate": tf.convert_to_tensor(learning_rate),
            "iterations": tf.convert_to_tensor(self.optimizer.iterations),
            "after": {n: tf.convert_to_tensor(v) for n, v in after.items()},
            "before": {n: tf.convert_to_tensor(v) for n, v in before.items()},
        }

    def _hyper(self, i: int, moment: dict[str, Any]) -> Hyper:
        return self.optimizer._hyper_at(self.optimizer._compute_dtype(i), i, **moment)

    def _large(self, indices: Sequence[int]) -> list[tuple[tuple, list[int]]]:
        """The large variables among these, in nearly equal parts of one kind."""
        optimizer = self.optimizer
        kinds: dict[tuple, list[int]] = {}
        for i in indices:
            raw = rows.raw(optimizer._trainable_variables[i])
            part = optimizer._part(i)
            if np.prod(raw.shape) >= SMALL and part.compilable:
                kind = id(part), optimizer._decays(i), raw.dtype, raw.shape, raw.device
                kinds.setdefault(kind, []).append(i)
        return [
            (kind, part.tolist())
            for kind, alike in kinds.items()
            for part in np.array_split(alike, -(-len(alike) // ALIKE))
        ]

    def _update_alike(self, kind: tuple, alike: list[int], dense, moment) -> None:
        optimizer = self.optimizer
        first = alike[0]
        variables = [rows.raw(optimizer._trainable_variables[i]) for i in alike]
        slots = [
            {name: rows.raw(slot) for name, slot in optimizer._slots(i).items()}
            for i in alike
        ]

        gradients = [dense[i] for i in alike]
        for stage in self._stages(kind, first, gradients[0], moment):
            step = self._compile(
                first, (len(alike), *kind, *stage), self._overwriting(stage, first)
            )
            step(variables, slots, gradients, moment)

    def _overwriting(self, stage: list[str], i: int) -> Callable:
        """An update of variables like the i-th, which writes some of the arrays."""

        def update(variables, slots, gradients, moment):
            hyper = self._hyper(i, moment)
            for variable, own, gradient in zip(
                variables, slots, gradients, strict=True
            ):
                arrays = {PARAMETER: variable, **own}
                new = self.optimizer._updated(arrays, gradient, i, hyper)
                for name in stage:
                    self.optimizer.assign(arrays[name], new[name])

        return update

    def _stages(self, kind: tuple, i: int, gradient, moment) -> list[list[str]]:
        """The calls that an update is made of: what each of them overwrites."""
        optimizer = self.optimizer
        key = *kind, *_numbers(optimizer._part(i))
        if key not in self._found_stages:
            old = {PARAMETER: rows.raw(optimizer._trainable_variables[i])}
            old.update((n, rows.raw(slot)) for n, slot in optimizer._slots(i).items())

            def trace(old, gradient, moment):
                new = optimizer._updated(old, gradient, i, self._hyper(i, moment))
                large = {n for n, a in old.items() if np.prod(a.shape) >= STAGED}
                reads, needs = dependencies(old, new)
                self._found_stages[key] = stages(list(old), reads, needs, large)

            specs = tf.nest.map_structure(
                lambda array: tf.TensorSpec(array.shape, array.dtype),
                (old, gradient, moment),
            )
            tf.function(trace, autograph=False).get_concrete_function(*specs)
        return self._found_stages[key]

    def _update_group(self, group, present, dense, moment) -> None:
        optimizer = self.optimizer
        first = group.indices[0]
        variables = [optimizer._trainable_variables[i] for i in group.indices]
        dtype = optimizer._compute_dtype(first)

        def update(parameter, slots, gradient, moment):
            state = {name: tf.convert_to_tensor(slot) for name, slot in slots.items()}
            hyper = self._hyper(first, moment)
            new, new_state = optimizer._advanced(
                tf.cast(parameter, dtype), state, gradient, first, hyper
            )
            for name, slot in slots.items():
                slot.assign(kept(state[name], new_state[name]))
            return tf.cast(new, parameter.dtype)

        def kept(old, new):
            """The new values, but the old ones of variables without a gradient."""
            if len(present) == len(group.indices):
                return new
            mask = np.repeat([i in present for i in group.indices], group.sizes)
            return tf.where(mask, new, old)

        gradients = [
            dense[i] if i in present else tf.zeros(variable.shape, dtype)
            for i, variable in zip(group.indices, variables, strict=True)
        ]
        names = optimizer._part(first).slots
        slots = {name: rows.raw(group.slots[name]) for name in names}
        update = self._compile(first, present, update)
        new = update(_flat(variables), slots, _flat(gradients), moment)
        parts = tf.split(new, group.sizes)
        for i, variable, part in zip(group.indices, variables, parts, strict=True):
            if i in present:
                variable.assign(_reshaped(part, tuple(variable.shape)))

    @property
    def _compiles(self) -> bool:
        return available() and not rows.in_xla()

    def _compile(self, i: int, key: tuple, function: Callable) -> Callable:
        """The function as XLA compiles it, or as it is where that cannot be had.

        Args:
            i: The variable whose rule is in it.
            key: What else decides what it does; of functions with one key the first
                is compiled.
            function: A function of tensors, `tf.Variable`s and structures of them.
        """
        if not self._compiles:
            return function
        part = self.optimizer._part(i)
        key = (id(part), *key, *_numbers(part))
        if key not in self._compiled:
            self._compiled[key] = tf.function(
                function, jit_compile=True, autograph=False
            )
        return self._compiled[key]


def _numbers(optimizer) -> list[tuple]:
    """The attributes of an optimizer that become constants in what is compiled."""
    return sorted(
        (name, value)
        for name, value in vars(optimizer).items()
        if isinstance(value, (int, float, str, type(None))) and name[0] != "_"
    )


def _flat(tensors: Sequence) -> tf.Tensor:
    return tf.concat([_reshaped(tensor, (-1,)) for tensor in tensors], axis=0)


def _reshaped(tensor, shape: tuple[int, ...]) -> tf.Tensor:
    """Without an operation for vectors, which are many in groups."""
    tensor = tf.convert_to_tensor(tensor)
    return tensor if len(shape) == tensor.shape.rank == 1 else tf.reshape(tensor, shape)


def _is_entrywise(optimizer, i: int, scale: float) -> bool:
    """Whether six entries move together as two and four do, and as a matrix does."""
    rng = np.random.default_rng(0)

    def numbers():
        return tf.constant(rng.uniform(0.5, 2.0, 6) * [1, -1, 1, 1, -1, 1])

    parameter, gradient = numbers(), scale * numbers()
    state = {name: tf.abs(numbers()) for name in optimizer._part(i).slots}
    shared = dict.fromkeys(optimizer.shared_slots, tf.constant(0.5))

    def moved(entries: slice, shape: Sequence[int]):
        hyper = optimizer._hyper_at(
            "float64",
            i,
            learning_rate=tf.constant(0.01),
            iterations=tf.constant(3, tf.int64),
            before=shared,
            after=shared,
        )
        values = [
            tf.reshape(value[entries], shape)
            for value in (parameter, gradient, *state.values())
        ]
        new, values = optimizer._advanced(
            values[0], dict(zip(state, values[2:], strict=True)), values[1], i, hyper
        )
        return [np.ravel(new), *map(np.ravel, values.values())]

    try:
        together, matrix = moved(slice(6), [6]), moved(slice(6), [3, 2])
        apart = moved(slice(2), [2]), moved(slice(2, 6), [4])
    except (ValueError, IndexError, tf.errors.OpError):
        return False  # such as a rule that asks for a matrix
    return all(
        np.allclose([t, t], [m, [*a, *b]], rtol=1e-12, atol=0.0, equal_nan=True)
        for t, m, a, b in zip(together, matrix, *apart, strict=True)
    )
