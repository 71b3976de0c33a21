"""Dense updates on PyTorch in few passes over memory, by the same rules.

Each operation of a rule is a call of its own, with a tensor of its own for what it
returns: for a large variable a pass over memory, for a small one mostly the call. Here
a rule is recorded once as a `Program`, and then

- large variables are written in place with their slots, block by block, so that a
  block stays in the cache from the first call to the last;
- small variables of one kind are gathered into one array, and their slots are parts of
  one.

Both take a rule that treats each entry by itself; `recorded` finds out whether it does.
Within a `keras.StatelessScope` or `torch.compile` (`jit_compile=True`), with
`cautious`, and if the environment variable `KERAS_ADAPTIVE_FUSED` is 0, each variable
is updated by plain operations.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from keras_adaptive.optimizers.contract.slot import PARAMETER
from keras_adaptive.optimizers.engine import step
from keras_adaptive.optimizers.engine.step import Pairs, StepContext, VariableState
from keras_adaptive.optimizers.engine.torch.program import Part, Program
from keras_adaptive.optimizers.engine.torch.recorded import (
    GRADIENT,
    numbers,
    recorded,
)
from keras_adaptive.optimizers.engine.torch.scope import tensor_of, within_scope

SMALL = 16_384
"""Variables with fewer entries are gathered into one array."""

BLOCK = 2**19
"""The most entries of a block."""

MOST_PROGRAMS = 64
"""The most programs that are kept; a hyper-parameter may change at every step."""


def available() -> bool:
    """Returns whether rules are recorded: not within `torch.compile`, which fuses."""
    switched_on = os.environ.get("KERAS_ADAPTIVE_FUSED", "1") != "0"
    return switched_on and not torch.compiler.is_compiling()


class FusedUpdates:
    """The dense updates of an optimizer."""

    def __init__(self) -> None:
        self._states: Sequence[VariableState] = ()
        self._values: dict[int, torch.Tensor] = {}
        self._present: set[int] = set()
        self._grouped: set[int] | None = None
        self._groups: list[_Group] = []
        self._programs: dict[tuple, Program | None] = {}

    def build(self, states: Sequence[VariableState]) -> None:
        """Keeps the variables and their tensors; called outside of any scope.

        Args:
            states: The variables that have slots.
        """
        self._states = states
        self._values = {state.index: state.variable.value for state in states}

    def update(self, pairs: Pairs, context: StepContext) -> None:
        """Updates variables by dense gradients.

        Args:
            pairs: The gradients and their variables.
            context: The step.
        """
        with torch.no_grad():
            if available() and not context.cautious and self._in_place(pairs):
                pairs = self._fused(pairs, context)
            for gradient, state in pairs:
                step.update(state, context, gradient)

    def _in_place(self, pairs: Pairs) -> bool:
        """Returns whether variables are written at once, to the tensors of before."""
        return not within_scope() and all(
            tensor_of(state.variable) is self._values[state.index] for _, state in pairs
        )

    def _fused(self, pairs: Pairs, context: StepContext) -> Pairs:
        """Updates what programs can update, and returns the rest."""
        self._regroup({state.index for _, state in pairs})
        programs = self._programs_by_kind(context)
        gradients = {state.index: gradient for gradient, state in pairs}
        parts: dict[Program, list[Part]] = {}
        gathered: list[_Group] = []
        for group in self._groups:
            program = programs[self._kinds[group.states[0].index]]
            if program and group.gather(gradients):
                parts.setdefault(program, []).extend(group.parts)
                gathered.append(group)
        done = {state.index for group in gathered for state in group.states}
        left: Pairs = []
        for gradient, state in pairs if len(done) < len(pairs) else ():
            if state.index in done:
                continue
            kind, value = self._kinds.get(state.index), self._values[state.index]
            program = programs[kind] if kind and value.is_contiguous() else None
            if program:
                arrays = _flat(state, value, gradient)
                parts.setdefault(program, []).extend(_blocks(arrays))
            else:
                left.append((gradient, state))
        shared = numbers(context) if parts else []
        for program, each in parts.items():
            program.run(program.start(shared), each)
        for group in gathered:
            group.scatter()
        return left

    @functools.cached_property
    def _kinds(self) -> dict[int, tuple]:
        """The kinds of the variables that keep a number an entry, by index."""
        kinds: dict[int, tuple] = {}
        for state in self._states:
            slots = state.algorithm.slots.values()
            if not any(slot.row_wise or slot.shape_of for slot in slots):
                value = self._values[state.index]
                kind = (id(state.algorithm), state.decays, value.dtype, value.device)
                kinds[state.index] = kind
        return kinds

    @functools.cached_property
    def _firsts(self) -> dict[tuple, VariableState]:
        """The first variable of each kind."""
        states = {state.index: state for state in self._states}
        return {kind: states[i] for i, kind in reversed(self._kinds.items())}

    def _regroup(self, present: set[int]) -> None:
        """Groups the small variables that have a gradient.

        The others may be frozen, or get sparse gradients. If that changes, groups are
        made anew at the second call with the same gradients.
        """
        if len(present) == 1 or present == self._grouped:
            return
        if present != self._present:
            self._present = present
            if self._grouped is not None:
                return
        alike: dict[tuple, list[VariableState]] = {}
        for state in self._states:
            small = 0 < self._values[state.index].numel() < SMALL
            if small and state.index in present and state.index in self._kinds:
                alike.setdefault(self._kinds[state.index], []).append(state)
        self._groups = [
            _Group(states, [self._values[state.index] for state in states])
            for states in alike.values()
            if len(states) > 1
        ]
        self._grouped = present

    def _programs_by_kind(self, context: StepContext) -> dict[tuple, Program | None]:
        """Returns the programs of this step, recorded where constants have changed."""
        programs = {}
        for kind, first in self._firsts.items():
            key = (*kind, *step.constants(first.algorithm, context))
            if key not in self._programs:
                if len(self._programs) == MOST_PROGRAMS:
                    self._programs.clear()
                dtype = self._values[first.index].dtype
                self._programs[key] = recorded(first, context, dtype)
            programs[kind] = self._programs[key]
        return programs


class _Group:
    """Small variables that are updated together.

    Args:
        states: The variables.
        values: Their values.
    """

    def __init__(self, states: list[VariableState], values: list[torch.Tensor]) -> None:
        self.states = states
        self._values = values
        slots = {
            name: [state.slots[name].value for state in states]
            for name in states[0].slots
        }
        gradients = [
            torch.zeros_like(value, dtype=getattr(torch, states[0].dtype))
            for value in values
        ]
        arrays = {PARAMETER: values, GRADIENT: gradients, **slots}
        flat, self._views = {}, {}
        for name, tensors in arrays.items():
            flat[name], self._views[name] = _joined(tensors)
        for name, tensors in slots.items():
            for tensor, view in zip(tensors, self._views[name], strict=True):
                tensor.data = view
        self.parts = _blocks(flat)

    def gather(self, gradients: Mapping[int, Any]) -> bool:
        """Copies weights and gradients together, if all variables have a gradient."""
        present = [gradients.get(state.index) for state in self.states]
        if any(gradient is None for gradient in present):
            return False
        torch._foreach_copy_(self._views[PARAMETER], self._values)
        torch._foreach_copy_(self._views[GRADIENT], present)
        return True

    def scatter(self) -> None:
        """Copies the weights back."""
        torch._foreach_copy_(self._values, self._views[PARAMETER])


def _joined(tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Returns tensors as one array, and the parts of it in their shapes."""
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    parts = flat.split([tensor.numel() for tensor in tensors])
    pairs = zip(parts, tensors, strict=True)
    return flat, [part.view(tensor.shape) for part, tensor in pairs]


def _flat(state: VariableState, value: torch.Tensor, gradient: torch.Tensor) -> Part:
    """Returns the arrays of a variable, each with one axis."""
    slots = {name: slot.value for name, slot in state.slots.items()}
    arrays = {PARAMETER: value, GRADIENT: gradient, **slots}
    return {name: array.detach().reshape(-1) for name, array in arrays.items()}


def _blocks(arrays: Part) -> list[Part]:
    """Returns arrays in blocks."""
    split = zip(*(array.split(BLOCK) for array in arrays.values()), strict=True)
    return [dict(zip(arrays, parts, strict=True)) for parts in split]
