"""Updates of the rows that a sparse gradient touches, and of those that it skips."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_adaptive.optimizers.contract.choice import choice
from keras_adaptive.optimizers.contract.hyper import Hyper
from keras_adaptive.optimizers.contract.naming import path_of
from keras_adaptive.optimizers.engine import averaging
from keras_adaptive.optimizers.engine.backend import (
    dtype_name,
    is_sparse,
    values_now,
)
from keras_adaptive.optimizers.engine.conditional import nothing
from keras_adaptive.optimizers.engine.row_gradient import Rows
from keras_adaptive.optimizers.engine.sparse import catch_up
from keras_adaptive.optimizers.engine.sparse.primitives import rows
from keras_adaptive.optimizers.engine.sparse.row_state import RowState
from keras_adaptive.optimizers.engine.step import (
    Pairs,
    StepContext,
    VariableState,
    advance,
)

CALLS_PER_TURN = 32
"""A deferred optimizer flushes further rows in turn once in so many calls."""

SMALL_TABLE = 2**15
"""A deferred optimizer updates tables of at most so many entries whole."""

ROWS_PER_ID = 2
"""It also does so with tables of at most so many rows for each row of a gradient;
with 0 never.

At both limits the two ways cost the same; see `benchmarks/small_tables.py`.
"""


class RowUpdates:
    """The updates of variables with sparse gradients.

    Args:
        add_variable: The optimizer's method. Row state is added when a variable gets
            its first sparse gradient, so a model without any pays nothing.
        dense: The `FusedUpdates`, which update whole variables.

    Attributes:
        kept: The clocks, queues and coefficients.
    """

    def __init__(self, add_variable: Callable[..., keras.Variable], dense: Any) -> None:
        self.kept = RowState(add_variable)
        self._dense = dense

    def has_clock(self, state: VariableState) -> bool:
        """Returns whether the rows of a variable may be behind."""
        return state.index in self.kept.clocks

    def is_table(self, state: VariableState) -> bool:
        """Returns whether a variable has had a sparse gradient or row state."""
        return state.index in self.kept.tables

    def begin(self, state: VariableState, context: StepContext) -> None:
        """Adds the row state of a table that will get sparse gradients."""
        if not self._is_updated_whole(state, context):
            self.kept.prepare(state, context)

    def rows_now(self, state: VariableState, ids: Any, context: StepContext) -> Any:
        """Returns rows of a variable after all steps so far, and writes nothing."""
        parameter, slots, average = _read(state, ids, ids)
        if self.has_clock(state):
            hyper = state.hyper(context)
            parameter, _, _ = self._caught_up(
                parameter, slots, average, state, context, hyper, ids
            )
        return ops.cast(parameter, dtype_name(state.variable.dtype))

    # From a gradient to rows.

    def by_row(self, gradient: Any, state: VariableState, context: StepContext) -> Any:
        """Returns a gradient as unique rows, or as it is if nothing about it is sparse.

        Args:
            gradient: Tensor or sparse tensor.
            state: The variable.
            context: The step.

        Raises:
            ValueError: The optimizer is lazy, and several replicas train.
        """
        if is_sparse(gradient):
            return self._coalesced(gradient, state, context)
        if self.kept.has_any(state.index):
            ids = ops.arange(gradient.shape[0], dtype="int64")
            return Rows(ids, gradient)
        return gradient

    def _coalesced(
        self, gradient: Any, state: VariableState, context: StepContext
    ) -> Any:
        variable = state.variable
        height = int(variable.shape[0])
        name = path_of(variable)
        ids, values = rows.parts(gradient, variable)
        values = ops.cast(values, state.dtype)
        if context.replicated and context.sparse == "lazy":
            raise ValueError(
                "sparse='lazy' does not work with several replicas yet. Use "
                "sparse='deferred' or sparse='dense': with replicas both update the "
                "whole table."
            )
        if self._is_updated_whole(state, context):
            # It sums repeated rows as well.
            ids = rows.checked_ids(ids, height, name)
            return rows.dense(Rows(ids, values), tuple(variable.shape))
        self.kept.prepare(state, context)
        return rows.coalesce(ids, values, height, name)

    def _is_updated_whole(self, state: VariableState, context: StepContext) -> bool:
        return (
            context.sparse == "dense"
            or context.replicated
            or state.algorithm.dense_only is not None
            or self._is_small_table(state, context)
        )

    def _is_small_table(self, state: VariableState, context: StepContext) -> bool:
        entries = np.prod(state.variable.shape)
        small = bool(entries <= SMALL_TABLE)
        return context.deferred and small and not self.kept.has_any(state.index)

    def accumulate(self, gradient: Rows, state: VariableState) -> None:
        """Adds a gradient to the accumulator and queues its rows."""
        total = rows.gather(state.accumulator, gradient.ids) + gradient.values
        rows.scatter(state.accumulator, gradient.ids, total)
        rows.add_pending(gradient.ids, *self.kept.queue(state.index))

    def drain(self, state: VariableState) -> Rows:
        """Returns the accumulated gradient, and puts zeros in its place."""
        accumulator = state.accumulator
        ids = rows.drain_pending(*self.kept.queue(state.index))
        values = rows.gather(accumulator, ids)
        rows.scatter(accumulator, ids, ops.zeros_like(values))
        values = rows.zero_unused(values, ids, int(accumulator.shape[0]))
        return Rows(ids, values)

    # Updates.

    def update(self, pairs: Pairs, context: StepContext) -> None:
        """Updates variables by their gradients, sparse ones by row.

        Args:
            pairs: Gradients, dense or as rows, and their variables.
            context: The step.
        """
        dense = [pair for pair in pairs if not isinstance(pair[0], Rows)]
        if dense:
            self._dense.update(dense, context)
        for gradient, state in pairs:
            if isinstance(gradient, Rows):
                self._update_table(gradient, state, context)

    def _update_table(
        self, gradient: Rows, state: VariableState, context: StepContext
    ) -> None:
        """Updates the rows of a gradient or the whole table, whichever costs less."""
        height = int(state.variable.shape[0])
        late_ids = rows.after(gradient.source, gradient.ids)

        def by_row() -> None:
            self._update_rows(gradient, late_ids, state, context)

        def whole() -> None:
            self._update_whole(gradient, state, context)

        count, most = gradient.ids.shape[0], gradient.source.shape[0]
        never = not (context.deferred and ROWS_PER_ID) or rows.in_xla()
        if never or (most is not None and most * ROWS_PER_ID < height):
            by_row()
        elif count is not None:
            (whole if count * ROWS_PER_ID >= height else by_row)()
        else:
            choice(ops.size(gradient.ids) * ROWS_PER_ID >= height, whole, by_row)

    def _update_whole(
        self, gradient: Rows, state: VariableState, context: StepContext
    ) -> None:
        clock = self.kept.clocks.get(state.index)
        if clock is not None:
            self.flush_if_behind(state, context)
            # Zeros of this shape would stay in memory as a constant of the graph.
            clock.assign(ops.maximum(values_now(clock), self.kept.calls + 1))
        gradient = rows.dense(gradient, tuple(state.variable.shape))
        self._dense.update([(gradient, state)], context)
        if state.average is not None and clock is not None:
            parameter = ops.cast(values_now(state.variable), state.average.dtype)
            average = averaging.averaged(state.average, parameter, context)
            state.average.assign(average)

    def _update_rows(
        self,
        gradient: Rows,
        late_ids: Any,
        state: VariableState,
        context: StepContext,
    ) -> None:
        ids = gradient.ids
        parameter, slots, average = _read(state, ids, late_ids)
        hyper = state.hyper(context)
        if self.has_clock(state):
            parameter, slots, average = self._caught_up(
                parameter, slots, average, state, context, hyper, ids
            )
        parameter, slots = advance(
            state, context, hyper, parameter, slots, gradient.values
        )
        if average is not None:
            average = averaging.averaged(average, parameter, context)
        self._write(state, ids, parameter, slots, average, seen=1)

    # Skipped steps.

    def change_direction(
        self, update: Any, states: Iterable[VariableState], context: StepContext
    ) -> None:
        """Brings all rows up to date after a step that changes where they move.

        Args:
            update: Bool scalar, whether this call is an update.
            states: All variables.
            context: The step.
        """
        changes = context.row_algorithm.changes_direction(context.row_hyper())
        if changes is None or not catch_up.rows_change(context):
            return

        def flush() -> None:
            for state in filter(self.has_clock, states):
                self.flush(state, context)

        choice(ops.logical_and(update, changes), flush, nothing)

    def take_turns(self, pairs: Pairs, context: StepContext) -> None:
        """Brings the next rows of each table up to date, every few calls of `apply`.

        They are as many as its gradient has, but enough that no row is ever too old
        for the coefficients that are kept.

        Args:
            pairs: The gradients of this call and their variables.
            context: The step.
        """
        for gradient, state in pairs:
            cursor = self.kept.cursors.get(state.index)
            if isinstance(gradient, Rows) and cursor is not None:
                now = rows.after(gradient.source, self.kept.calls)
                self._take_turn(cursor, ops.size(gradient.ids), state, context, now)

    def _take_turn(
        self,
        cursor: Any,
        touched: Any,
        state: VariableState,
        context: StepContext,
        now: Any,
    ) -> None:
        height = int(state.variable.shape[0])
        turns = (catch_up.HISTORY - 1) // CALLS_PER_TURN - 1

        def flush() -> None:
            size = ops.clip(touched, -(-height // turns), height)
            block = rows.next_block(cursor, size, height)
            self.flush_rows(block, state, context)

        choice(ops.equal(now % CALLS_PER_TURN, 0), flush, nothing)

    def flush_if_behind(self, state: VariableState, context: StepContext) -> None:
        """Brings all rows of a variable up to date, or only looks at their clock."""
        clock = values_now(self.kept.clocks[state.index])
        behind = ops.min(clock) < self.kept.calls
        choice(behind, lambda: self.flush(state, context), nothing)

    def flush(
        self,
        state: VariableState,
        context: StepContext,
        point: Callable[..., Any] | None = None,
    ) -> None:
        """Brings all rows of a variable up to date, a block at a time.

        Args:
            state: The variable.
            context: The step.
            point: Where to move the rows then: a function of `(parameter, slots,
                average, hyper)` that returns the first three.
        """
        rows.for_each_block(
            int(state.variable.shape[0]),
            lambda ids: self.flush_rows(ids, state, context, point),
        )

    def flush_rows(
        self,
        ids: Any,
        state: VariableState,
        context: StepContext,
        point: Callable[..., Any] | None = None,
    ) -> None:
        """Brings distinct rows up to date, and moves them; see `flush`."""
        values, hyper = _read(state, ids, ids), state.hyper(context)
        if self.has_clock(state):
            values = self._caught_up(*values, state, context, hyper, ids)
        if point is not None:
            values = point(*values, hyper.at(values[0]))
        self._write(state, ids, *values)

    def _caught_up(
        self,
        parameter: Any,
        slots: dict[str, Any],
        average: Any,
        state: VariableState,
        context: StepContext,
        hyper: Hyper,
        ids: Any,
    ) -> tuple[Any, dict[str, Any], Any]:
        """Returns rows after the steps that they skipped."""
        clock = rows.gather(self.kept.clocks[state.index], ids)
        direction, dtype, now = None, hyper.dtype, self.kept.calls
        coefficients: dict[str, Any] = {}
        if context.deferred:
            place = catch_up.place(ops.maximum(clock, now + 1 - catch_up.HISTORY))
            coefficients = {
                name: ops.cast(rows.gather(column, place), dtype)
                for name, column in self.kept.columns(state.decays).items()
                if not name.startswith("power")
            }
        elif context.ema_momentum is not None:
            begins = clock <= values_now(self.kept.numbers["restart"])
            coefficients = catch_up.standing_average(
                now - clock, begins, context.ema_momentum, dtype
            )
        if catch_up.rows_change(context):
            updates = coefficients.get("steps", now - clock)
            shape = (-1,) + (1,) * (len(parameter.shape) - 1)
            skipped = ops.reshape(ops.cast(updates, dtype), shape)
            closed_form: Any = context.row_algorithm.catch_up
            direction, slots = closed_form(slots, skipped, hyper.at(parameter))
            if context.cautious:
                direction = None
        parameter, average = catch_up.caught_up(
            parameter, average, direction, coefficients
        )
        return parameter, slots, average

    def _write(
        self,
        state: VariableState,
        ids: Any,
        parameter: Any,
        slots: dict[str, Any],
        average: Any,
        seen: int = 0,
    ) -> None:
        rows.scatter(state.variable, ids, parameter)
        for name, slot in state.slots.items():
            rows.scatter(slot, ids, slots[name])
        if average is not None:
            rows.scatter(state.average, ids, average)
        if self.has_clock(state):
            clock = self.kept.clocks[state.index]
            rows.scatter(clock, ids, ops.zeros_like(ids) + self.kept.calls + seen)


def _read(
    state: VariableState, ids: Any, late_ids: Any
) -> tuple[Any, dict[str, Any], Any]:
    parameter = ops.cast(rows.gather(state.variable, late_ids), state.dtype)
    # A rule may sum over the rows at hand, to which unused places add nothing.
    height = int(state.variable.shape[0])
    slots = {
        name: rows.zero_unused(rows.gather(slot, ids), ids, height)
        for name, slot in state.slots.items()
    }
    average = None if state.average is None else rows.gather(state.average, ids)
    return parameter, slots, average
