"""One call of `apply`, through the hooks that Keras calls on its way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.contract.algorithm import Algorithm
from keras_adaptive.optimizers.contract.override import override
from keras_adaptive.optimizers.engine import accumulation
from keras_adaptive.optimizers.engine.backend import (
    ON_TENSORFLOW,
    cast,
    is_rows,
    is_sparse,
    map_values,
)
from keras_adaptive.optimizers.engine.conditional import branch
from keras_adaptive.optimizers.engine.gradients import (
    after_checks,
    are_plain,
    check_count,
    check_gradient,
    check_variables,
    in_our_form,
)
from keras_adaptive.optimizers.engine.step import Pairs, StepContext, VariableState

if ON_TENSORFLOW:
    from keras_adaptive.optimizers.engine.tensorflow.replicas import update_replicas


class AppliesGradients(Algorithm, keras.optimizers.Optimizer):
    """Hands the gradients that Keras gives to the engine.

    A class that takes part has an engine, `_engine`, and defines the context of a step.
    """

    def _context(self, learning_rate: Any = None) -> StepContext:
        raise NotImplementedError

    def _state_of(self, variable: Any) -> VariableState:
        raise NotImplementedError

    @override
    def apply(self, grads: Iterable[Any], trainable_variables: Any = None) -> None:
        """Updates the variables; sparse gradients are first summed by row.

        Args:
            grads: Gradients, one for each variable: float tensors of the shapes of
                the variables, `tf.IndexedSlices`, or `None`.
            trainable_variables: The variables; by default those built for.

        Raises:
            ValueError: A gradient has not its variable's shape, or no float dtype; or
                a variable is complex, or its shape is not fixed.
            tf.errors.InvalidArgumentError: Row ids are out of range.
        """
        grads = list(grads)
        if trainable_variables is None:
            variables = list(self._trainable_variables)
        else:
            variables = list(trainable_variables)
            check_count(grads, variables)
        if not grads or len(grads) != len(variables):
            super().apply(grads, trainable_variables)
            return
        if not are_plain(grads, variables):
            grads = [in_our_form(gradient) for gradient in grads]
            if not self.built:
                check_variables(variables)
            for gradient, variable in zip(grads, variables, strict=True):
                check_gradient(gradient, variable)
        if not self.built:
            self.build(variables)
        if self._engine.factory.late_slots:
            self._engine.factory.fill_late_slots(
                ops.not_equal(self._iterations, 0), self._context().replicated
            )
        if not self._engine.has_tables and not any(map(is_sparse, grads)):
            super().apply(grads, trainable_variables)
            return
        try:
            states = [self._state_of(variable) for variable in variables]
        except KeyError:
            self._check_variables_are_known(variables)
            raise
        by_row = self._engine.by_row(grads, states, self._context())
        with after_checks(grads, by_row):
            super().apply(by_row, trainable_variables)

    @override
    def _backend_apply_gradients(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any]
    ) -> None:
        engine, context = self._engine, self._context()
        engine.has_stepped = True
        states = [self._state_of(variable) for variable in trainable_variables]
        grads = [
            map_values(cast, gradient, state.dtype)
            for gradient, state in zip(grads, states, strict=True)
        ]
        if context.replicated:
            # TensorFlow does not sum a tensor that all replicas share.
            grads = [map_values(ops.copy, gradient) for gradient in grads]
            # Before anything that is not linear is done.
            summed = self._all_reduce_sum_gradients(
                zip(grads, trainable_variables, strict=True)
            )
            grads = [gradient for gradient, _ in summed]
        pairs = list(zip(grads, states, strict=True))
        engine.to_training(context)
        engine.settle_left_out(pairs, context)
        update = accumulation.update_or_accumulate(
            pairs, context, engine.rows, self._update, self._conditionally
        )
        if self.use_ema:
            engine.update_averages(engine.states, context)
        engine.catch_up(update, pairs, context)
        if self.use_ema and self.ema_overwrite_frequency:
            self._conditionally(
                accumulation.is_multiple(
                    self.iterations + 1, self.ema_overwrite_frequency
                ),
                lambda: engine.overwrite_by_averages(engine.states, context),
            )

    def _conditionally(self, predicate: Any, function: Callable[[], None]) -> None:
        variables = [*self._trainable_variables, *self.variables]
        branch(predicate, function, variables=variables)

    def _update(self, pairs: Pairs, context: StepContext) -> None:
        clipped = self._clip_gradients([gradient for gradient, _ in pairs])
        pairs = [(g, state) for g, (_, state) in zip(clipped, pairs, strict=True)]
        if self.global_slots:
            context = self._engine.with_new_global_state(pairs, context, self)
        if context.replicated:
            strategy = self._distribution_strategy
            update_replicas(pairs, context, strategy, self._update_each)
        else:
            self._update_each(pairs, context)
        self._engine.write_global_state(context)

    def _update_each(self, pairs: Pairs, context: StepContext) -> None:
        if type(self).update_step is AppliesGradients.update_step:
            self._engine.update(pairs, context)
            return
        with self._engine.during(context):
            for gradient, state in pairs:
                self.update_step(gradient, state.variable, context.learning_rate)

    @override
    def _clip_gradients(self, grads: Sequence[Any]) -> list[Any]:
        if not self._engine.has_tables:
            return list(super()._clip_gradients(grads))
        # The zeros that a sparse gradient leaves out change no norm.
        clipped = super()._clip_gradients(
            [g.values if is_rows(g) else g for g in grads]
        )
        return [
            gradient.replace(values) if is_rows(gradient) else values
            for gradient, values in zip(grads, clipped, strict=True)
        ]

    @override
    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable and its state by its gradient.

        A subclass may override it; then each variable is updated by itself.

        Args:
            gradient: The gradient.
            variable: The variable.
            learning_rate: The learning rate of this step.
        """
        state = dataclasses.replace(self._state_of(variable), variable=variable)
        context = dataclasses.replace(
            self._engine.running or self._context(learning_rate),
            learning_rate=learning_rate,
            fallback_learning_rate=self.fallback_learning_rate(learning_rate),
        )
        self._engine.update_plainly(gradient, state, context)
