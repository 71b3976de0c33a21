"""Dense updates on TensorFlow in few passes over memory, by the same rules.

`fit` on a CPU does not compile, so each operation of a rule is a pass over memory of
its own, and each variable pays for a dozen operations. Inside an ordinary step,

- XLA compiles the rule by itself for large variables. They are written in place with
  their slots, up to sixteen of one shape in a call; one compilation serves all such
  calls;
- small variables of one kind share flat slots and the rule's operations, in groups.
  That takes a rule which treats each entry by itself; `elementwise` finds out whether
  it does. Nothing is compiled for them.

Under `tf.distribute`, and if the environment variable `KERAS_ADAPTIVE_FUSED` is 0, each
variable is updated by plain operations. Without XLA and with op determinism large
variables are. Inside of XLA the same code runs without a call of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled

from keras_adaptive.optimizers.contract.slot import PARAMETER, Slot
from keras_adaptive.optimizers.engine import step
from keras_adaptive.optimizers.engine.backend import assign, raw
from keras_adaptive.optimizers.engine.step import Pairs, StepContext, VariableState
from keras_adaptive.optimizers.engine.tensorflow import rows
from keras_adaptive.optimizers.engine.tensorflow.elementwise import is_elementwise
from keras_adaptive.optimizers.engine.tensorflow.slices import Group, flat, reshaped
from keras_adaptive.optimizers.engine.tensorflow.write_order import (
    dependencies,
    write_order,
)
from keras_adaptive.optimizers.engine.variables import VariableFactory

SMALL = 16_384
"""Variables with fewer entries share flat slots."""

GROUP = 2**15
"""The most entries of a group. The operations of a smaller one cost less than a call of
XLA, and groups are updated while the gradients of others are still computed."""

COPIES_MATTER = 2**17
"""Copies of arrays with fewer entries stay in the cache, and save calls."""

MAX_VARIABLES_PER_CALL = 16
"""How many larger variables of one shape share a call."""

TENSORS = (
    *("learning_rate", "fallback_learning_rate", "iterations"),
    *("global_state", "global_state_before"),
)
"""The fields of a `StepContext` that are arguments of what is compiled."""


def available() -> bool:
    """Returns whether variables are updated together here."""
    switched_on = os.environ.get("KERAS_ADAPTIVE_FUSED", "1") != "0"
    return switched_on and not tf.distribute.has_strategy()


def _compiles() -> bool:
    """Returns whether rules can be compiled by themselves here."""
    together = available() and not rows.in_xla()
    return together and not is_op_determinism_enabled() and _xla_works()


@functools.cache
def _xla_works() -> bool:
    with tf.init_scope():
        try:
            tf.function(lambda x: x + 1.0, jit_compile=True)(tf.constant(1.0))
        except tf.errors.OpError:
            return False
    return True


class FusedUpdates:
    """The dense updates of an optimizer.

    Attributes:
        groups: The small variables, by kind.
    """

    def __init__(self) -> None:
        self.groups: list[Group] = []
        self._states: dict[int, VariableState] = {}
        self._compiled: dict[tuple, Callable[..., Any]] = {}
        self._write_orders: dict[tuple, list[list[str]]] = {}

    # Groups.

    def build(
        self,
        states: Sequence[VariableState],
        factory: VariableFactory,
        context: StepContext,
        global_slots: Sequence[str],
    ) -> None:
        """Groups the small variables, and adds their slots.

        Args:
            states: The variables that have slots.
            factory: Adds variables.
            context: A step.
            global_slots: The names of the global slots.
        """
        self._states = {state.index: state for state in states}
        if not available() or context.cautious:
            return
        for alike in self._kinds(states, context, global_slots):
            for together in filter(lambda part: len(part) > 1, _parts(alike)):
                group = _group(together, factory)
                self.groups.append(group)
                variables = [state.variable for state in together]
                for i, name, part in group.slices(variables, factory.name):
                    self._states[i].slots[name] = part

    def _kinds(
        self,
        states: Sequence[VariableState],
        context: StepContext,
        global_slots: Sequence[str],
    ) -> list[list[VariableState]]:
        """Returns the small variables that can be updated together, by kind."""
        kinds: dict[tuple, list[VariableState]] = {}
        elementwise: dict[int, bool] = {}
        for state in states:
            if np.prod(state.variable.shape) >= SMALL:
                continue
            rule = id(state.algorithm)
            if rule not in elementwise:
                elementwise[rule] = is_elementwise(state, context, global_slots)
            if elementwise[rule]:
                kinds.setdefault(_kind(state), []).append(state)
        return list(kinds.values())

    # Updates.

    def update(self, pairs: Pairs, context: StepContext) -> None:
        """Updates variables by dense gradients.

        Args:
            pairs: The gradients and their variables.
            context: The step.
        """
        gradients = {state.index: gradient for gradient, state in pairs}
        tensors = {name: _tensors(getattr(context, name)) for name in TENSORS}
        context = dataclasses.replace(context, **tensors)
        done: set[int] = set()
        for group in self.groups:
            for present in self._present(group, gradients):
                self._update_group(group, present, gradients, context)
                done.update(present)
        large = _large([state for _, state in pairs if state.index not in done])
        for alike in large if large and _compiles() else ():
            self._update_alike(alike, gradients, context, tensors)
            done.update(state.index for state in alike)
        for gradient, state in pairs:
            if state.index not in done:
                step.update(state, context, gradient)

    def _present(
        self, group: Group, gradients: Mapping[int, Any]
    ) -> list[tuple[int, ...]]:
        """Returns the variables of a group with a gradient, those that decay apart.

        All of them do or do not, unless that has changed since the group was built.
        """
        present: dict[bool, tuple[int, ...]] = {}
        for i in group.indices:
            if i in gradients:
                decays = self._states[i].decays
                present[decays] = (*present.get(decays, ()), i)
        return list(present.values())

    def _update_alike(
        self,
        alike: list[VariableState],
        gradients: dict[int, Any],
        context: StepContext,
        tensors: dict[str, Any],
    ) -> None:
        """Updates large variables of one kind."""
        arrays = [_arrays(state) for state in alike]
        values = [gradients[state.index] for state in alike]
        key = (_large_kind(alike[0]), *step.constants(alike[0].algorithm, context))
        for stage in self._write_order(key, alike[0], values[0], context, tensors):
            function = _overwriting(stage, alike[0], context)
            compiled = self._compile((len(alike), *key, *stage), function)
            compiled(arrays, values, tensors)

    def _write_order(
        self,
        key: tuple,
        state: VariableState,
        gradient: Any,
        context: StepContext,
        tensors: dict[str, Any],
    ) -> list[list[str]]:
        """Returns the calls that an update is made of: what each overwrites."""
        if key not in self._write_orders:

            def trace(old: Any, gradient: Any, tensors: Any) -> None:
                now = dataclasses.replace(context, **tensors)
                hyper = state.hyper(now)
                new = step.new_values(state, now, hyper, old, gradient)
                large = {n for n, a in old.items() if np.prod(a.shape) >= COPIES_MATTER}
                reads, needs = dependencies(old, new)
                self._write_orders[key] = write_order(list(old), reads, needs, large)

            specs = tf.nest.map_structure(
                lambda array: tf.TensorSpec(array.shape, array.dtype),
                (_arrays(state), gradient, tensors),
            )
            tf.function(trace, autograph=False).get_concrete_function(*specs)
        return self._write_orders[key]

    def _update_group(
        self,
        group: Group,
        present: tuple[int, ...],
        gradients: dict[int, Any],
        context: StepContext,
    ) -> None:
        """Updates the small variables of a group that have a gradient."""
        states = [self._states[i] for i in group.indices]
        first, variables = self._states[present[0]], [s.variable for s in states]
        slots = {name: raw(group.slots[name]) for name in first.algorithm.slots}
        values = [
            gradients[state.index]
            if state.index in present
            else tf.zeros(state.variable.shape, first.dtype)
            for state in states
        ]
        parameter, old = step.tensors(flat(variables), slots, first.dtype)
        hyper = first.hyper(context)
        new, new_slots = step.advance(
            first, context, hyper, parameter, old, flat(values)
        )
        moves = np.repeat([i in present for i in group.indices], group.sizes)
        for name, slot in slots.items():
            value = new_slots[name]
            slot.assign(value if moves.all() else tf.where(moves, value, old[name]))
        new = tf.cast(new, raw(first.variable).dtype)
        for state, part in zip(states, tf.split(new, group.sizes), strict=True):
            if state.index in present:
                shape = tuple(state.variable.shape)
                state.variable.assign(reshaped(part, shape))

    def _compile(self, key: tuple, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the function as XLA compiles it.

        Args:
            key: What decides what it does. Of functions with one key the first is
                compiled.
            function: A function of tensors, `tf.Variable`s and structures of them.
        """
        if key not in self._compiled:
            self._compiled[key] = tf.function(
                function, jit_compile=True, autograph=False
            )
        return self._compiled[key]


def _parts(alike: Sequence[VariableState]) -> list[list[VariableState]]:
    """Returns variables in the parts that become groups, in their order."""
    parts: list[list[VariableState]] = []
    entries = 0
    for state in alike:
        size = int(np.prod(state.variable.shape))
        entries += size
        if not parts or entries > GROUP:
            parts.append([])
            entries = size
        parts[-1].append(state)
    return parts


def _group(alike: list[VariableState], factory: VariableFactory) -> Group:
    variables = [state.variable for state in alike]
    sizes = [int(np.prod(variable.shape)) for variable in variables]
    total = sum(sizes)
    slots = {
        name: factory.slot(
            variables,
            f"{name}_and_others",
            Slot(slot.initial, shape_of=lambda _: (total,)),
            values=lambda: flat(variables),
        )
        for name, slot in alike[0].algorithm.slots.items()
    }
    return Group([state.index for state in alike], sizes, slots)


def _kind(state: VariableState) -> tuple:
    own = raw(state.variable)
    return id(state.algorithm), state.decays, own.dtype, own.device


def _large_kind(state: VariableState) -> tuple:
    return *_kind(state), raw(state.variable).shape


def _large(states: Sequence[VariableState]) -> list[list[VariableState]]:
    """Returns the large variables among these, in nearly equal parts of one kind."""
    kinds: dict[tuple, list[VariableState]] = {}
    for state in states:
        if np.prod(state.variable.shape) >= SMALL and state.algorithm.compilable:
            kinds.setdefault(_large_kind(state), []).append(state)
    return [
        [alike[n] for n in part]
        for alike in kinds.values()
        for part in np.array_split(
            range(len(alike)), -(-len(alike) // MAX_VARIABLES_PER_CALL)
        )
    ]


def _arrays(state: VariableState) -> dict[str, tf.Variable]:
    """Returns a variable and its slots, by name."""
    slots = {name: raw(slot) for name, slot in state.slots.items()}
    return {PARAMETER: raw(state.variable), **slots}


def _overwriting(
    stage: list[str], first: VariableState, context: StepContext
) -> Callable[..., None]:
    """Returns an update of variables like the first, which writes some arrays."""

    def update(arrays: Any, gradients: Any, tensors: Any) -> None:
        now = dataclasses.replace(context, **tensors)
        hyper = first.hyper(now)
        for own, gradient in zip(arrays, gradients, strict=True):
            new = step.new_values(first, now, hyper, own, gradient)
            for name in stage:
                assign(own[name], new[name])

    return update


def _tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: tf.convert_to_tensor(each) for name, each in value.items()}
    return tf.convert_to_tensor(value)
