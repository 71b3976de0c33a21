"""The training point, where gradients are taken, and the point to evaluate.

A moving average and a schedule-free optimizer are evaluated at another point than the
one they train at. While training goes on, the variables hold the training point; here
they move to the evaluation point and back. The optimizer's state holds what the way
back needs, and at which of the two points the variables are. A model that is saved at
its evaluation point therefore goes on training from the other.

The state also holds a checksum of the weights at the evaluation point. Where the weights
differ from it on the way back, somebody has set them: `set_weights`, `load_weights`,
`EarlyStopping(restore_best_weights=True)`. Training then starts at these weights, and
the points that belonged to others are forgotten.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.engine.backend import assign
from keras_adaptive.optimizers.engine.step import StepContext, VariableState, read
from keras_adaptive.optimizers.engine.variables import VariableFactory

Point = Callable[..., Any]
"""A function of `(parameter, slots, average, hyper)` that returns the first three."""


class EvaluationPoint:
    """Moves variables to the point at which to evaluate, and back.

    Attributes:
        reached: int32 variable: 0 at the training point, and at the evaluation point
            the `checksum` of the variables; `None` if the two points are the same.
        visited: Whether somebody, such as `EvaluateAveraged`, takes care of the
            two points.
    """

    def __init__(self) -> None:
        self.reached: keras.Variable | None = None
        self.visited = False

    @property
    def is_reached(self) -> bool:
        """Whether the variables are at an evaluation point apart from training's."""
        return self.reached is not None and bool(ops.convert_to_numpy(self.reached))

    def mark(self, states: Iterable[VariableState]) -> None:
        """Notes that the variables are at the evaluation point."""
        if self.reached is not None:
            self.reached.assign(checksum(s.variable for s in states))

    def warn_unless_visited(self, owner: str) -> None:
        """Warns once that validation in `fit` ran at the training point.

        Args:
            owner: The class of the optimizer.
        """
        if self.reached is None or self.visited:
            return
        self.visited = True
        warnings.warn(
            f"The weights are now at the point at which to evaluate {owner}. If this "
            "`fit` validated or saved checkpoints, it did so at the training point. "
            "Add `keras_adaptive.callbacks.EvaluateAveraged()` to its callbacks.",
            stacklevel=4,
        )

    def build(self, states: Iterable[VariableState], factory: VariableFactory) -> None:
        """Adds the variable `reached` if there is a point to reach."""
        if any(map(_has_other_point, states)):
            self.reached = factory.number("evaluating", "int32")

    def enter(
        self, states: Iterable[VariableState], context: StepContext, row_updates: Any
    ) -> None:
        """Moves the variables to the evaluation point, unless they are there.

        Args:
            states: The variables.
            context: The step.
            row_updates: The `RowUpdates` that hold deferred rows, or `None`.
        """
        self._move("evaluation_point", True, states, context, row_updates)

    def leave(
        self, states: Iterable[VariableState], context: StepContext, row_updates: Any
    ) -> None:
        """Moves the variables back to the training point, unless they are there."""
        self._move("training_point", False, states, context, row_updates)

    def _move(
        self,
        method: str,
        arrived: bool,
        states: Iterable[VariableState],
        context: StepContext,
        row_updates: Any,
    ) -> None:
        if self.reached is None:
            return
        states = list(states)
        # Copies: a variable stays a variable here, and it changes below.
        evaluating = ops.not_equal(ops.copy(self.reached), 0)
        predicate = ops.logical_not(evaluating) if arrived else evaluating
        replaced = False if arrived else self._are_replaced(states, evaluating)

        def move(wrap: Callable[[Point], Point] = lambda point: point) -> None:
            for state in states:
                by_row = row_updates is not None and row_updates.is_table(state)
                if not _has_other_point(state):
                    if by_row and row_updates.has_clock(state):
                        row_updates.flush(state, context, context.calls)
                    continue
                point = partial(_point, state, method)
                if not arrived:
                    point = partial(_from_here_if, replaced, state, point)
                point = wrap(point)
                if by_row:
                    row_updates.flush(state, context, context.calls, point)
                else:
                    _move_variable(state, context, point)

        if keras.backend.backend() == "jax":
            # It is fused with the update; a conditional would be compiled anew at
            # every call outside of `jit`.
            move(lambda point: partial(_where, predicate, point))
        else:
            ops.cond(predicate, move, lambda: None)
        if not arrived:
            self.reached.assign(0)
            return
        branch(predicate, lambda: self.mark(states), variables=[*variables, self.reached], changed=[self.reached])

    def _are_replaced(self, states: Sequence[VariableState], evaluating: Any) -> Any:
        """Returns whether the variables are not those that `mark` saw."""
        return differ((s.variable for s in states), self.reached, evaluating)


def _has_other_point(state: VariableState) -> bool:
    return state.average is not None or bool(state.algorithm.evaluation_point)


def _point(
    state: VariableState,
    method: str,
    parameter: Any,
    slots: Any,
    average: Any,
    hyper: Any,
) -> Any:
    if average is not None:
        return average, slots, parameter
    return *getattr(state.algorithm, method)(parameter, slots, hyper), None


def _move_variable(state: VariableState, context: StepContext, point: Point) -> None:
    parameter, slots = read(state)
    old = None if state.average is None else ops.convert_to_tensor(state.average)
    new_parameter, new_slots, new = point(
        parameter, slots, old, state.hyper(context).at(parameter)
    )
    values = [(state.variable, parameter, new_parameter), (state.average, old, new)]
    for name, slot in state.slots.items():
        values.append((slot, slots[name], new_slots[name]))
    # Copies: on some backends a tensor that was read changes with its variable.
    changed = [(v, ops.copy(new)) for v, old, new in values if new is not old]
    for variable, value in changed:
        assign(variable, ops.cast(value, variable.dtype))


def _where(
    predicate: Any, point: Point, parameter: Any, slots: Any, average: Any, hyper: Any
) -> Any:
    """Returns what `point` returns where the predicate holds, else its arguments."""
    before = (parameter, slots, average)
    return keras.tree.map_structure(
        lambda new, old: old if new is old else ops.where(predicate, new, old),
        point(*before, hyper),
        before,
    )
