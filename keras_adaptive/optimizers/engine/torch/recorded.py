"""The step of a variable as a `Program`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch
from keras import ops

from keras_adaptive.optimizers.contract.slot import PARAMETER
from keras_adaptive.optimizers.engine import step
from keras_adaptive.optimizers.engine.backend import raw
from keras_adaptive.optimizers.engine.step import StepContext, VariableState
from keras_adaptive.optimizers.engine.torch.program import CannotRecord, Part, Program

GRADIENT = "gradient"
"""The name of the gradient among the arrays of a program."""

NUMBERS = ("learning_rate", "fallback_learning_rate", "iterations")
GLOBAL_STATES = ("global_state", "global_state_before")
"""The fields of a `StepContext` that are arguments of a program."""

SCALES = (1e-3, 1e3)
"""The sizes of the gradients that are tried."""


def numbers(context: StepContext) -> list[torch.Tensor]:
    """Returns the numbers of a step that a program takes."""
    given = [context.learning_rate, context.fallback_learning_rate, context.iterations]
    for name in GLOBAL_STATES:
        given += getattr(context, name).values()
    return [
        each if isinstance(each, torch.Tensor) else ops.convert_to_tensor(each)
        for each in map(raw, given)
    ]


def recorded(
    state: VariableState, context: StepContext, dtype: torch.dtype
) -> Program | None:
    """Returns the step of variables like one, or `None` if there is no such program.

    The rule must treat each entry by itself: six entries must move together as two and
    four do, and as a matrix does.

    Args:
        state: The variable.
        context: A step.
        dtype: The dtype of the variable.
    """
    names = tuple(context.global_state)

    def move(given: Sequence[torch.Tensor], arrays: Part) -> Part:
        values = given[len(NUMBERS) :]
        after, before = values[: len(names)], values[len(names) :]
        now = dataclasses.replace(
            context,
            **dict(zip(NUMBERS, given, strict=False)),
            global_state=dict(zip(names, after, strict=True)),
            global_state_before=dict(zip(names, before, strict=True)),
        )
        arrays = dict(arrays)
        gradient = arrays.pop(GRADIENT)
        return step.new_values(state, now, state.hyper(now), arrays, gradient)

    trial = _Trial(state, dtype, numbers(context))
    try:
        program = Program(move, trial.numbers(), trial.arrays(1.0))
        alike = all(trial.moves_alike(program, move, scale) for scale in SCALES)
    except (CannotRecord, ValueError, IndexError, RuntimeError):
        return None  # such as a rule that asks for a matrix
    return program if alike else None


class _Trial:
    """Random numbers and entries for the step of a variable."""

    def __init__(
        self, state: VariableState, dtype: torch.dtype, given: Sequence[torch.Tensor]
    ) -> None:
        self._given = given
        self._rng = np.random.default_rng(0)
        self._dtypes = {PARAMETER: dtype}
        for name in (*state.slots, GRADIENT):
            self._dtypes[name] = getattr(torch, state.dtype)

    def numbers(self) -> list[torch.Tensor]:
        """Returns other numbers of a step; integers are steps."""
        return [
            torch.tensor(
                self._rng.uniform(0.01, 0.5)
                if number.is_floating_point()
                else self._rng.integers(3, 100),
                dtype=number.dtype,
                device=number.device,
            )
            for number in self._given
        ]

    def arrays(self, scale: float) -> dict[str, torch.Tensor]:
        """Returns six entries of each array; `scale` is the size of the gradients."""
        arrays = {}
        for name, dtype in self._dtypes.items():
            entries = self._rng.uniform(0.5, 2.0, 6)
            if name in (PARAMETER, GRADIENT):
                entries *= [1, -1, 1, 1, -1, 1]
            if name == GRADIENT:
                entries *= scale
            device = self._given[0].device
            arrays[name] = torch.tensor(entries, dtype=dtype, device=device)
        return arrays

    def moves_alike(
        self, program: Program, move: Callable[..., Part], scale: float
    ) -> bool:
        """Returns whether a program moves two parts as the rule moves a matrix."""
        given, arrays = self.numbers(), self.arrays(scale)
        matrix = {name: array.reshape(3, 2).clone() for name, array in arrays.items()}
        expected = move(given, matrix)
        parts = [{n: a[part] for n, a in arrays.items()} for part in (_FOUR, _TWO)]
        program.run(program.start(given), parts)
        return all(
            torch.allclose(arrays[name], new.reshape(-1), 1e-5, 0.0, equal_nan=True)
            for name, new in expected.items()
        )


_FOUR, _TWO = slice(4), slice(4, 6)
