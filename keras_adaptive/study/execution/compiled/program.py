"""The training of a contender on a workload as functions that JAX compiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from keras_adaptive.callbacks.evaluate_averaged import movable_optimizers
from keras_adaptive.study.execution.compiled.rates import numbers_replaced
from keras_adaptive.study.execution.compiled.replicas import Arrays, State, values
from keras_adaptive.study.execution.compiled.resident import Rows, taken

Logs = dict[str, Any]


class Program:
    """Functions of several replicas at once, traced through Keras's own train step.

    Args:
        model: A model with its loss, its metrics and its optimizer built. It lends its
            structure; all values come from the arguments.
        smaller: The number of rows in the smaller batch at the end of an epoch, or 0.
    """

    def __init__(self, model: keras.Model, smaller: int) -> None:
        self._model = model
        self._smaller = smaller
        self._metrics = values(model.metrics_variables)
        over_replicas = partial(jax.vmap, in_axes=(0, 0, None, 0, None, None))
        self.train = jax.jit(over_replicas(self.train_one), donate_argnums=0)
        over_replicas = partial(jax.vmap, in_axes=(0, 0, None, None, None))
        self.validate = jax.jit(over_replicas(self.validate_one))
        moves = any(movable_optimizers(model.optimizer))
        start = jax.jit(over_replicas(self._evaluate_start_one))
        self.evaluate_start = start if moves else self.validate
        self.evaluate_end = jax.jit(over_replicas(self.evaluate_end_one))

    def train_one(
        self,
        state: State,
        numbers: Arrays,
        data: Rows,
        slot: Any,
        rows: Any,
        smaller: Any,
    ) -> tuple[State, Logs, Any]:
        """Trains a replica for a round.

        Args:
            state: Its state.
            numbers: The numbers of its schedules.
            data: Features and labels of all rows.
            slot: The place of its seed among those of `rows`.
            rows: Row numbers, shape (steps, seeds, batch size).
            smaller: Which of the steps take the smaller batch, shape (steps,).

        Returns:
            The state, the metrics of the round so far after every step, and the
            learning rate after every step.
        """

        def step(carried: Any, given: Any) -> Any:
            batch, is_smaller = given
            if not self._smaller:
                logs, carried = self._step(carried, data, batch[slot])
            else:
                logs, carried = jax.lax.cond(
                    is_smaller,
                    lambda: self._step(carried, data, batch[slot, : self._smaller]),
                    lambda: self._step(carried, data, batch[slot]),
                )
            return carried, (logs, self._learning_rate(carried[2]))

        with numbers_replaced(self._model.optimizer, numbers):
            carried = (*state, list(map(jnp.asarray, self._metrics)))
            carried, (logs, rates) = jax.lax.scan(step, carried, (rows, smaller))
        *new, _ = carried
        return State(*new), logs, rates

    def _step(self, carried: Any, data: Rows, rows: Any) -> tuple[Logs, Any]:
        logs, new = self._model.train_step(carried, taken(data, rows))
        return logs, tuple(map(list, new))

    def _learning_rate(self, optimizer: Arrays) -> Any:
        model = self._model
        with keras.StatelessScope(
            state_mapping=list(zip(model.optimizer.variables, optimizer, strict=True))
        ):
            return jnp.asarray(model.optimizer.learning_rate)

    def _evaluate_start_one(
        self, state: State, numbers: Arrays, data: Rows, batches: Any, last: Any
    ) -> Logs:
        """Evaluates a replica before its training; see `validate_one`."""
        return self._evaluate(state.trained, state.others, data, batches, last)

    def validate_one(
        self, state: State, numbers: Arrays, data: Rows, batches: Any, last: Any
    ) -> Logs:
        """Evaluates a replica in the middle of its training.

        Args:
            state: Its state.
            numbers: The numbers of its schedules.
            data: Features and labels of all rows.
            batches: Row numbers of all batches but the last.
            last: Row numbers of the last batch.
        """
        with self._moved(state, numbers) as (optimizer, moved):
            for each in movable_optimizers(optimizer):
                each.to_evaluation()
        return self._evaluate(moved(), state.others, data, batches, last)

    def evaluate_end_one(
        self, state: State, numbers: Arrays, data: Rows, batches: Any, last: Any
    ) -> Logs:
        """Evaluates a replica after its training; see `validate_one`."""
        with self._moved(state, numbers) as (optimizer, moved):
            for each in movable_optimizers(optimizer):
                each.to_training()
            optimizer.finalize_variable_values(self._model.trainable_variables)
        return self._evaluate(moved(), state.others, data, batches, last)

    @contextmanager
    def _moved(
        self, state: State, numbers: Arrays
    ) -> Iterator[tuple[keras.optimizers.Optimizer, Callable[[], Arrays]]]:
        """Lets an optimizer assign to variables, and gives what they are then."""
        model = self._model
        mapping = [
            *zip(model.trainable_variables, state.trained, strict=True),
            *zip(model.optimizer.variables, state.optimizer, strict=True),
        ]
        with (
            numbers_replaced(model.optimizer, numbers),
            keras.StatelessScope(state_mapping=mapping) as scope,
        ):
            yield (
                model.optimizer,
                lambda: [
                    scope.get_current_value(each) for each in model.trainable_variables
                ],
            )

    def _evaluate(
        self, trained: Arrays, others: Arrays, data: Rows, batches: Any, last: Any
    ) -> Logs:
        def test(metrics: Arrays, rows: Any) -> tuple[Logs, Arrays]:
            logs, (_, _, metrics) = self._model.test_step(
                (trained, others, metrics), taken(data, rows)
            )
            return logs, list(metrics)

        metrics, _ = jax.lax.scan(
            lambda metrics, rows: (test(metrics, rows)[1], None),
            list(map(jnp.asarray, self._metrics)),
            batches,
        )
        return test(metrics, last)[0]


def of_each(logs: Logs) -> list[dict[str, float]]:
    """Returns the metrics of each replica, from those of all."""
    names = list(logs)
    values_of_each = zip(
        *(np.asarray(logs[name]).tolist() for name in names), strict=True
    )
    return [dict(zip(names, each, strict=True)) for each in values_of_each]
