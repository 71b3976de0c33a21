"""Updates under `tf.distribute`, when several replicas train."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import tensorflow as tf

from keras_adaptive.optimizers.engine.backend import raw
from keras_adaptive.optimizers.engine.step import Pairs, StepContext, VariableState


def update_replicas(
    pairs: Pairs,
    context: StepContext,
    strategy: tf.distribute.Strategy,
    update: Callable[[Pairs, StepContext], None],
) -> None:
    """Updates the copies of variables on all replicas.

    Args:
        pairs: Gradients, summed over the replicas, and their variables.
        context: The step.
        strategy: The strategy of the optimizer.
        update: Updates variables of one replica.
    """
    rates = (context.learning_rate, context.fallback_learning_rate)

    def update_copy(
        state: VariableState, variable: Any, gradient: Any, rate: Any, other_rate: Any
    ) -> None:
        now = dataclasses.replace(
            context, learning_rate=rate, fallback_learning_rate=other_rate
        )
        update([(gradient, dataclasses.replace(state, variable=variable))], now)

    def update_everywhere(strategy: Any, gradients: Any, rates: Any) -> None:
        for gradient, (_, state) in zip(gradients, pairs, strict=True):
            strategy.extended.update(
                raw(state.variable),
                partial(update_copy, state),
                args=(gradient, *rates),
                group=False,
            )

    tf.__internal__.distribute.interim.maybe_merge_call(
        update_everywhere, strategy, [gradient for gradient, _ in pairs], rates
    )


def call_together(
    in_each: Callable[[Any], None],
    advance: Callable[[list[Any], Callable[[], None]], None],
    gradients: list[Any],
    sums: list[Any],
) -> None:
    """Leaves the context of the replicas for a call on behalf of all of them.

    Args:
        in_each: Called in each replica, with the gradients of each.
        advance: Called once, with the summed gradients and a function that calls
            `in_each` in all replicas.
        gradients: The gradients of this replica, or `None`.
        sums: The gradients summed over replicas, or `None`.
    """

    def merged(strategy: Any, gradients: Any, sums: Any) -> None:
        def call_each() -> None:
            strategy.extended.call_for_each_replica(in_each, args=(gradients,))

        first = [
            None if s is None else strategy.experimental_local_results(s)[0]
            for s in sums
        ]
        advance(first, call_each)

    context = tf.distribute.get_replica_context()
    context.merge_call(merged, args=(gradients, sums))
