"""The engine of an optimizer: its state, and everything that changes it."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_adaptive.optimizers.contract.algorithm import Algorithm
from keras_adaptive.optimizers.engine import averaging, checkpoint, step
from keras_adaptive.optimizers.engine.backend import (
    ON_TENSORFLOW,
    ON_TORCH,
    is_rows,
)
from keras_adaptive.optimizers.engine.evaluation_point import EvaluationPoint
from keras_adaptive.optimizers.engine.sparse.row_updates import RowUpdates
from keras_adaptive.optimizers.engine.sparse.tables import is_registered
from keras_adaptive.optimizers.engine.step import Pairs, StepContext, VariableState
from keras_adaptive.optimizers.engine.variables import VariableFactory

if ON_TENSORFLOW:
    from keras_adaptive.optimizers.engine.tensorflow import fused as on_tensorflow
if ON_TORCH:
    from keras_adaptive.optimizers.engine.torch import fused as on_torch


class Engine:
    """Runs an algorithm on the variables of a model.

    Args:
        add_variable: The optimizer's method.
        beside: Returns the scope in which a variable lands on the devices of another.

    Attributes:
        factory: Adds variables to the optimizer.
        states: The variables with all that is kept of them, by index.
        global_state: The variables of the global slots, by name.
        point: Moves the variables to the evaluation point and back.
        rows: The `RowUpdates`, on TensorFlow and PyTorch; on JAX `None`.
        fused: The `FusedUpdates`, on TensorFlow and PyTorch; on JAX `None`.
        running: The step that runs, while a user's `update_step` is called.
        has_stepped: Whether a step was made or compiled since the optimizer was made.
    """

    rows: Any = None
    fused: Any = None
    running: StepContext | None = None
    has_stepped = False

    def __init__(
        self,
        add_variable: Callable[..., keras.Variable],
        beside: Callable[[Any], contextlib.AbstractContextManager[Any]],
    ) -> None:
        self.factory = VariableFactory(add_variable, beside)
        self.states: list[VariableState] = []
        self.global_state: dict[str, keras.Variable] = {}
        self.point = EvaluationPoint()
        if ON_TENSORFLOW:
            self.fused = on_tensorflow.FusedUpdates()
        if ON_TORCH:
            self.fused = on_torch.FusedUpdates()
        if self.fused is not None:
            self.rows = RowUpdates(add_variable, self.fused)

    # State.

    def build(
        self,
        algorithm: Algorithm,
        variables: Sequence[Any],
        context: StepContext,
        *,
        decays: Callable[[Any], bool],
        updates: Callable[[Any], bool],
        averages: Sequence[Any] | None,
        accumulators: Sequence[Any] | None,
    ) -> None:
        """Adds the state of the variables.

        Args:
            algorithm: The algorithm of the optimizer itself.
            variables: The variables of the model.
            context: A step.
            decays: Returns whether a variable may decay.
            updates: Returns whether the rule updates a variable.
            averages: The moving averages of the variables, if there are any.
            accumulators: The sums of their gradients, with gradient accumulation.
        """
        for i, variable in enumerate(variables):
            fallback = algorithm.fallback if algorithm.uses_fallback(variable) else None
            state = VariableState(
                i,
                variable,
                fallback or algorithm,
                by_fallback=fallback is not None,
                may_decay=decays(variable),
                average=averages[i] if averages else None,
                accumulator=accumulators[i] if accumulators else None,
                by_rule=updates(variable),
            )
            self.states.append(state)
        updated = [state for state in self.states if state.by_rule]
        if ON_TENSORFLOW:
            names = list(algorithm.global_slots)
            self.fused.build(updated, self.factory, context, names)
        for state in updated:
            for name, slot in state.algorithm.slots.items():
                if name not in state.slots:
                    state.slots[name] = self.factory.slot([state.variable], name, slot)
        if ON_TORCH:
            self.fused.build(updated)
        wide = any(state.dtype == "float64" for state in self.states)
        for name, slot in algorithm.global_slots.items():
            dtype = "float64" if wide else "float32"
            number = self.factory.number(name, dtype, initial=slot.initial)
            self.global_state[name] = number
        self.point.build(self.states, self.factory)
        if self.rows is not None:
            for state in filter(lambda s: is_registered(s.variable), updated):
                self.rows.begin(state, context)

    def change_decay(
        self,
        change: Callable[[], None],
        decays: Callable[[Any], bool],
        context: StepContext,
    ) -> None:
        """Changes which variables decay, before the first step.

        Args:
            change: Changes it in the optimizer.
            decays: Returns whether a variable may decay.
            context: A step.
        """
        # Loaded rows may be behind, by steps in which they decayed as before.
        self.flush(self.states, context)
        change()
        for state in self.states:
            state.may_decay = decays(state.variable)
        if self.rows is not None:
            self.rows.kept.decay_has_changed(self.states, context)

    def named_variables(self) -> dict[str, keras.Variable]:
        """Returns all state but that of rows, by name and index of the variable."""
        named = {}
        if self.point.reached is not None:
            named["evaluating"] = self.point.reached
        named.update(self.global_state)
        for state in self.states:
            kept = {
                "average": state.average,
                "gradient_accumulator": state.accumulator,
                **state.slots,
            }
            named.update(
                {f"{n}:{state.index}": v for n, v in kept.items() if v is not None}
            )
        return named

    def named_row_state(self) -> dict[str, keras.Variable]:
        """Returns the state of rows, by name and index of the variable."""
        return {} if self.rows is None else self.rows.kept.named_variables()

    def listed(self, variables: list[keras.Variable]) -> list[keras.Variable]:
        """Returns the variables of an optimizer as if each slot were its own.

        Keras's wrappers save their optimizers' variables by position. Row state, made
        by the first sparse gradient, would not be there yet when they load; the slots
        of grouped variables must stand where they stand without groups.

        Args:
            variables: The variables that were added to the optimizer.
        """
        row_state = {id(v) for v in self.named_row_state().values()}
        listed = [v for v in variables if id(v) not in row_state]
        groups = self.fused.groups if ON_TENSORFLOW else []
        if not groups:
            return listed
        slots = [slot for state in self.states for slot in state.slots.values()]
        flat = [v for group in groups for v in group.slots.values()]
        replaced = set(map(id, [*slots, *flat]))
        others = [v for v in listed if id(v) not in replaced]
        before = itertools.takewhile(lambda v: id(v) not in replaced, listed)
        first = len(list(before))
        return others[:first] + slots + others[first:]

    def initial_value(self, name: str) -> Any:
        """Returns what a variable of `named_variables` starts at.

        Args:
            name: Its name there.
        """
        slot, _, index = name.rpartition(":")
        if not slot:
            return self.factory.initial_value(self.named_variables()[name])
        state = self.states[int(index)]
        if slot == "average":
            # A copy, because two variables of JAX must not share a buffer.
            weights = ops.copy(ops.convert_to_tensor(state.variable))
            return ops.cast(weights, state.average.dtype)
        if slot == "gradient_accumulator":
            return ops.zeros(state.accumulator.shape, state.accumulator.dtype)
        shape = tuple(state.slots[slot].shape)
        return state.algorithm.slots[slot].initial_value(
            state.variable, shape, state.dtype
        )

    def load(
        self,
        state: Mapping[str, np.ndarray],
        named: Mapping[str, keras.Variable],
        context: StepContext,
    ) -> None:
        """Loads a state by name, and starts the state of rows that it lacks anew.

        Args:
            state: The values by name.
            named: All variables but the state of rows, by name.
            context: A step.

        Raises:
            ValueError: The state has rows that are not up to date, and this backend or
                this mode of sparse updates keeps no such rows.
        """
        prefix = checkpoint.ROW_STATE
        saved_rows = {n: v for n, v in state.items() if n.startswith(prefix)}
        if self.rows is not None:
            self.rows.kept.restart(saved_rows, self.states, context)
        row_state = self.named_row_state()
        lost = {n: v for n, v in saved_rows.items() if n not in row_state}
        if lost:
            checkpoint.check_up_to_date(saved_rows, context.sparse)
        for name, value in state.items():
            if name not in lost:
                (row_state if name in saved_rows else named)[name].assign(value)
        if self.rows is not None and context.accumulation:
            self.rows.kept.queue_all(saved_rows, self.states, context)

    def rows_now(self, state: VariableState, ids: Any, context: StepContext) -> Any:
        """Returns rows of a variable after all steps so far, and writes nothing.

        Args:
            state: The variable.
            ids: int64 tensor of shape `(n,)`.
            context: The step.
        """
        if self.rows is None:
            return ops.take(state.variable, ids, axis=0)
        return self.rows.rows_now(state, ids, context)

    # Updates.

    @property
    def has_tables(self) -> bool:
        """Whether a variable has had a sparse gradient or row state."""
        return self.rows is not None and bool(self.rows.kept.tables)

    def by_row(
        self,
        gradients: Sequence[Any],
        states: Sequence[VariableState],
        context: StepContext,
    ) -> list[Any]:
        """Returns the gradients with the sparse ones summed by row.

        Args:
            gradients: Tensors, `tf.IndexedSlices`, or `None`.
            states: Their variables.
            context: The step.
        """
        return [
            None if gradient is None else self.rows.by_row(gradient, state, context)
            for gradient, state in zip(gradients, states, strict=True)
        ]

    def update(self, pairs: Pairs, context: StepContext) -> None:
        """Updates variables by their gradients."""
        if self.rows is not None:
            self.rows.update(pairs, context)
        else:
            for gradient, state in pairs:
                step.update(state, context, gradient)

    def update_plainly(
        self, gradient: Any, state: VariableState, context: StepContext
    ) -> None:
        """Updates one variable by itself."""
        if is_rows(gradient):
            self.rows.update([(gradient, state)], context)
        else:
            step.update(state, context, gradient)

    @contextlib.contextmanager
    def during(self, context: StepContext) -> Iterator[None]:
        """Keeps a step at hand for an `update_step` that is called back."""
        before, self.running = self.running, context
        try:
            yield
        finally:
            self.running = before

    def with_new_global_state(
        self, pairs: Pairs, context: StepContext, algorithm: Algorithm
    ) -> StepContext:
        """Returns the step with the new values of the global slots."""
        before = {n: ops.convert_to_tensor(v) for n, v in self.global_state.items()}
        context = dataclasses.replace(
            context, global_state=before, global_state_before=before
        )
        after = step.new_global_state(pairs, context, algorithm)
        return dataclasses.replace(context, global_state=after)

    def write_global_state(self, context: StepContext) -> None:
        """Overwrites the global slots by their values in this step."""
        for name, variable in self.global_state.items():
            step.write(variable, context.global_state[name], context)

    # Rows that are behind, averages, and the point to evaluate.

    def catch_up(self, update: Any, pairs: Pairs, context: StepContext) -> None:
        """Accounts for one call of `apply` in the rows that it did not touch.

        Args:
            update: Bool scalar, whether the call was an update.
            pairs: The gradients of the call and their variables.
            context: The step.
        """
        if self.has_tables:
            self.rows.kept.advance(update, context)
            self.rows.change_direction(update, self.states, context)
            self.rows.take_turns(pairs, context)
            for state in self._tables_left_out(pairs, context):
                self.rows.kept.restart_clock(state)

    def settle_left_out(self, pairs: Pairs, context: StepContext) -> None:
        """Brings tables without a gradient up to date: the call is none of theirs.

        Args:
            pairs: The gradients of the call and their variables.
            context: The step.
        """
        for state in self._tables_left_out(pairs, context):
            self.rows.flush_if_behind(state, context)

    def _tables_left_out(
        self, pairs: Pairs, context: StepContext
    ) -> list[VariableState]:
        # A moving average follows all variables, as in Keras.
        if not self.has_tables or context.ema_momentum is not None:
            return []
        present = {state.index for _, state in pairs}
        left_out = (state for state in self.states if state.index not in present)
        return [state for state in left_out if self.has_clock(state)]

    def flush(self, states: Iterable[VariableState], context: StepContext) -> None:
        """Brings the rows of variables up to date, wherever any may be behind."""
        for state in filter(self.has_clock, states):
            self.rows.flush(state, context)

    def update_averages(
        self, states: Iterable[VariableState], context: StepContext
    ) -> None:
        """Takes the moving averages one call further; rows catch up by themselves."""
        averaged = [s for s in states if s.average is not None]
        averaging.update_averages(
            (s for s in averaged if not self.has_clock(s)), context
        )

    def overwrite_by_averages(
        self, states: Iterable[VariableState], context: StepContext
    ) -> None:
        """Overwrites variables by their averages, with all rows up to date."""
        for state in states:
            if self.has_clock(state):
                self.rows.flush(state, context, averaging.at_average)
            elif state.average is not None:
                averaging.overwrite_by_average(state)

    def has_clock(self, state: VariableState) -> bool:
        """Returns whether the rows of a variable may be behind."""
        return self.rows is not None and self.rows.has_clock(state)

    def to_evaluation(self, context: StepContext) -> None:
        """Moves the variables to the evaluation point, with all rows up to date."""
        self.point.enter(self.states, context, self.rows)
        if self.point.reached is None:
            self.flush(self.states, context)

    def to_training(self, context: StepContext) -> None:
        """Moves the variables back to the training point, if they are not there."""
        self.point.leave(self.states, context, self.rows)
