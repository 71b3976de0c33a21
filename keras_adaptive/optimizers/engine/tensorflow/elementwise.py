"""A trial that tells whether a rule treats each entry by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_adaptive.optimizers.contract.hyper import Hyper
from keras_adaptive.optimizers.engine.step import StepContext, VariableState, advance

SCALES = (1e-3, 1e-3, 1e3, 1e3, 1e3, 1e3)
"""The sizes of the gradients that are tried: small ones alone, large ones, and both."""

SMALL_ONES, LARGE_ONES = slice(2), slice(2, 6)


def is_elementwise(
    state: VariableState, context: StepContext, global_slots: Sequence[str]
) -> bool:
    """Returns whether the rule of a variable does to entries together as apart.

    Six entries of a matrix must move as two of them do in a vector, and as the other
    four do. No row or column of the matrix is one of the vectors, so that a rule that
    looks at rows is found out, too.

    Args:
        state: A variable that the rule updates.
        context: A step.
        global_slots: The names of the global slots.
    """
    algorithm = state.algorithm
    slots = algorithm.slots.values()
    if algorithm.dense_only or any(slot.row_wise or slot.shape_of for slot in slots):
        return False
    with tf.init_scope():
        shared = dict.fromkeys(global_slots, tf.constant(0.5))
        trial = dataclasses.replace(
            context,
            learning_rate=tf.constant(0.01),
            fallback_learning_rate=tf.constant(0.01),
            iterations=tf.constant(3, tf.int64),
            global_state=shared,
            global_state_before=shared,
        )
        return _moves_alike(state, trial)


def _moves_alike(state: VariableState, trial: StepContext) -> bool:
    rng = np.random.default_rng(0)

    def numbers() -> tf.Tensor:
        return tf.constant(rng.uniform(0.5, 2.0, 6) * [1, -1, 1, 1, -1, 1])

    parameter, gradient = numbers(), SCALES * numbers()
    slots = {name: tf.abs(numbers()) for name in state.algorithm.slots}

    def moved(entries: slice, shape: Sequence[int]) -> list[np.ndarray]:
        hyper = Hyper(
            state.algorithm,
            trial.learning_rate,
            trial.iterations,
            "float64",
            state.algorithm.weight_decay if state.decays else 0.0,
            trial.global_state,
            trial.global_state_before,
        )
        values = [
            tf.reshape(value[entries], shape)
            for value in (parameter, gradient, *slots.values())
        ]
        old = dict(zip(slots, values[2:], strict=True))
        new, new_slots = advance(state, trial, hyper, values[0], old, values[1])
        return [np.ravel(new), *map(np.ravel, new_slots.values())]

    try:
        matrix = moved(slice(6), [2, 3])
        apart = moved(SMALL_ONES, [2]), moved(LARGE_ONES, [4])
    except (ValueError, IndexError, tf.errors.OpError):
        return False  # such as a rule that asks for a matrix
    return all(
        np.allclose(m, np.concatenate([a, b]), rtol=1e-12, atol=0.0, equal_nan=True)
        for m, a, b in zip(matrix, *apart, strict=True)
    )
