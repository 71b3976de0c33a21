"""Gradient accumulation: the sums of gradients between two updates."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from keras import ops

from keras_adaptive.optimizers.engine.backend import is_rows
from keras_adaptive.optimizers.engine.step import Pairs, StepContext, write


def is_multiple(number: Any, divisor: int) -> Any:
    """Returns a bool tensor, whether a number is a multiple of another."""
    return ops.equal(ops.mod(number, divisor), 0)


def accumulate(pairs: Pairs, row_updates: Any) -> None:
    """Adds gradients to the accumulators.

    Args:
        pairs: The gradients and their variables.
        row_updates: The `RowUpdates`, which add those with rows.
    """
    for gradient, state in pairs:
        if is_rows(gradient):
            row_updates.accumulate(gradient, state)
        else:
            state.accumulator.assign_add(gradient)


def drain(pairs: Pairs, context: StepContext, row_updates: Any) -> Pairs:
    """Returns the means of the accumulated gradients, and empties the accumulators.

    Args:
        pairs: The gradients of this call and their variables.
        context: The step.
        row_updates: The `RowUpdates`, which hold the rows that wait.
    """
    means: Pairs = []
    for gradient, state in pairs:
        if is_rows(gradient):
            mean = row_updates.drain(state) / context.accumulation
        else:
            # A new tensor: the accumulator is about to be overwritten.
            mean = ops.convert_to_tensor(state.accumulator) / context.accumulation
            zeros = ops.zeros(state.accumulator.shape, state.accumulator.dtype)
            write(state.accumulator, zeros, context)
        means.append((mean, state))
    return means


def update_or_accumulate(
    pairs: Pairs,
    context: StepContext,
    row_updates: Any,
    update: Callable[[Pairs, StepContext], None],
    conditionally: Callable[[Any, Callable[[], None]], None],
) -> Any:
    """Updates variables, or with gradient accumulation only if an update is due.

    Args:
        pairs: The gradients of this call and their variables.
        context: The step.
        row_updates: The `RowUpdates`, which hold the rows that wait.
        update: Makes the update.
        conditionally: Calls a function if a predicate holds while the step runs.

    Returns:
        Whether the call is an update: `True` or a bool scalar tensor.
    """
    if context.accumulation is None:
        update(pairs, context)
        return True
    accumulate(pairs, row_updates)
    due = is_multiple(context.calls + 1, context.accumulation)

    def update_by_means(now: StepContext) -> None:
        update(drain(pairs, now, row_updates), now)

    if context.replicated:
        # TensorFlow cannot merge replicas inside of a conditional.
        update_by_means(dataclasses.replace(context, write_if=due))
    else:
        conditionally(due, lambda: update_by_means(context))
    return due
