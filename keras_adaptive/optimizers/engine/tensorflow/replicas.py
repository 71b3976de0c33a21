"""Updates under `tf.distribute`, when several replicas train."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import tensorflow as tf

from keras_adaptive.optimizers.engine.step import Pairs, StepContext, VariableState
from keras_adaptive.optimizers.engine.tensorflow import rows


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
                rows.raw(state.variable),
                partial(update_copy, state),
                args=(gradient, *rates),
                group=False,
            )

    tf.__internal__.distribute.interim.maybe_merge_call(
        update_everywhere, strategy, [gradient for gradient, _ in pairs], rates
    )
