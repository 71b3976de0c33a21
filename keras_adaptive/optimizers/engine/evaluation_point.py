"""The training point, where gradients are taken, and the point to evaluate.

A moving average and a schedule-free optimizer are evaluated at another point than the
one they train at. While training goes on, the variables hold the training point; here
they move to the evaluation point and back. The optimizer's state holds what the way
back needs, and at which of the two points the variables are. A model that is saved at
its evaluation point therefore goes on training from the other.

The state also holds a checksum of the weights at the evaluation point. Where they
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

from keras_adaptive.optimizers.contract.choice import choice
from keras_adaptive.optimizers.contract.slot import PARAMETER
from keras_adaptive.optimizers.engine.backend import ON_JAX, assign
from keras_adaptive.optimizers.engine.conditional import nothing
from keras_adaptive.optimizers.engine.marks import are_replaced, checksum
from keras_adaptive.optimizers.engine.step import StepContext, VariableState, read
from keras_adaptive.optimizers.engine.variables import VariableFactory

Point = Callable[..., Any]
"""A function of `(parameter, slots, average, hyper)` that returns the first three."""


class EvaluationPoint:
    """Moves variables to the point at which to evaluate, and back.

    Attributes:
        reached: The mark of the variables (see `marks`), positive at the evaluation
            point; `None` if they are trained at the same point.
        visited: Whether somebody, such as `EvaluateAveraged`, takes care of the
            two points.
    """

    def __init__(self) -> None:
        self.reached: keras.Variable | None = None
        self.visited = False

    @property
    def is_reached(self) -> bool:
        """Whether the variables are at an evaluation point apart from training's."""
        return self.reached is not None and int(self.reached) > 0

    def mark(self, states: Iterable[VariableState], sign: int = 1) -> None:
        """Marks the variables, to notice on the way back if somebody sets them.

        Args:
            states: The variables.
            sign: -1 if they are at the training point, too.
        """
        if self.reached is not None:
            self.reached.assign(sign * checksum(s.variable for s in states))

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
        if self.reached is None:
            return
        states = list(states)
        # Weights that were set since the last mark come first.
        self._leave(states, context, row_updates, ops.less(self.reached, 0))
        at_training = ops.equal(ops.copy(self.reached), 0)
        self._move("evaluation_point", at_training, states, context, row_updates)
        mark = ops.copy(self.reached)
        self.reached.assign(
            choice(
                at_training,
                lambda: checksum(s.variable for s in states),
                lambda: mark,
            )
        )

    def leave(
        self, states: Iterable[VariableState], context: StepContext, row_updates: Any
    ) -> None:
        """Moves the variables back to the training point, unless they are there."""
        if self.reached is None:
            return
        marked = ops.not_equal(ops.copy(self.reached), 0)
        leave = partial(self._leave, list(states), context, row_updates, marked)
        if ON_JAX or context.replicated:
            # JAX would compile a conditional anew at every call outside of `jit`, and
            # replicas may not assign in one.
            leave()
        else:
            choice(marked, leave, nothing)

    def _leave(
        self,
        states: list[VariableState],
        context: StepContext,
        row_updates: Any,
        predicate: Any,
    ) -> None:
        assert self.reached is not None
        mark = ops.copy(self.reached)
        pending = ops.where(predicate, mark, ops.zeros_like(mark))
        replaced = are_replaced(pending, (s.variable for s in states))
        away = ops.logical_or(ops.greater(pending, 0), replaced)
        self._move("training_point", away, states, context, row_updates, replaced)
        self.reached.assign(mark - pending)

    def _move(
        self,
        method: str,
        predicate: Any,
        states: Iterable[VariableState],
        context: StepContext,
        row_updates: Any,
        replaced: Any = None,
    ) -> None:
        def move(wrap: Callable[[Point], Point] = lambda point: point) -> None:
            for state in states:
                by_row = row_updates is not None and row_updates.is_table(state)
                if not _has_other_point(state):
                    if by_row and row_updates.has_clock(state):
                        row_updates.flush(state, context)
                    continue
                point: Point = partial(_point, state, method)
                if replaced is not None:
                    point = partial(_from_here_if, replaced, state, point)
                if by_row:
                    row_updates.flush(state, context, wrap(point))
                else:
                    _move_variable(state, context, wrap(point))

        if ON_JAX:
            # It is fused with the update; a conditional would be compiled anew at
            # every call outside of `jit`.
            move(lambda point: partial(_where, predicate, point))
        else:
            choice(predicate, move, nothing)


def _has_other_point(state: VariableState) -> bool:
    by_rule = state.by_rule and bool(state.algorithm.evaluation_point)
    return state.average is not None or by_rule


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


def _from_here_if(
    replaced: Any,
    state: VariableState,
    point: Point,
    parameter: Any,
    slots: Any,
    average: Any,
    hyper: Any,
) -> Any:
    """Returns what `point` returns, or the start of a path at new weights."""
    here = dict(slots)
    if state.by_rule and state.algorithm.evaluation_point:
        for name, slot in state.algorithm.slots.items():
            if slot.initial == PARAMETER:
                here[name] = ops.cast(parameter, slots[name].dtype)
    begun = None if average is None else ops.cast(parameter, average.dtype)
    there = point(parameter, slots, average, hyper)
    return keras.tree.map_structure(
        lambda new, old: (
            old if new is old else ops.where(replaced, ops.cast(new, old.dtype), old)
        ),
        (parameter, here, begun),
        tuple(there),
    )


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
