"""The adapter to Keras: turns an algorithm into a `keras.optimizers.Optimizer`.

It holds the hooks that Keras calls; the work is done in `engine`. Only here are private
hooks of Keras overridden. `tests/optimizers/test_hooks.py` names them all, so that a
Keras release which drops one is noticed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.contract.algorithm import Algorithm
from keras_adaptive.optimizers.contract.hyperparameters import documented
from keras_adaptive.optimizers.contract.options import LearningRate, sparse_mode
from keras_adaptive.optimizers.contract.override import override
from keras_adaptive.optimizers.engine import accumulation
from keras_adaptive.optimizers.engine.backend import (
    ON_TENSORFLOW,
    compute_dtype,
    is_rows,
    map_values,
)
from keras_adaptive.optimizers.engine.checkpoint import SavedByName
from keras_adaptive.optimizers.engine.conditional import branch
from keras_adaptive.optimizers.engine.engine import Engine
from keras_adaptive.optimizers.engine.gradients import (
    after_checks,
    check_count,
    check_gradient,
)
from keras_adaptive.optimizers.engine.step import Pairs, StepContext, VariableState
from keras_adaptive.optimizers.evaluation import EvaluatesElsewhere

if ON_TENSORFLOW:
    from keras_adaptive.optimizers.engine.tensorflow import rows
    from keras_adaptive.optimizers.engine.tensorflow.replicas import update_replicas

OWN_OPTIONS = ("cautious", "sparse")
"""The options that Keras's optimizers do not have."""


class AdaptiveOptimizer(
    EvaluatesElsewhere, SavedByName, Algorithm, keras.optimizers.Optimizer
):
    """Base class: an update rule, written once, becomes a Keras optimizer.

    A subclass declares its hyper-parameters and its state (`slots`), and defines one
    step (`rule`), free of side effects; `contract.Algorithm` lists everything that it
    may define. From these come dense and sparse updates on every Keras backend, all of
    Keras's base options, mixed precision, serialization and exact resumption.

    State is kept in the dtype of the variable, and in float32 for variables of 16
    bits; the rule computes in the same dtype. Gradients are summed over repeated rows
    before anything else is done to them.

    With `"deferred"`, rows are brought up to date at the end of `fit`, by
    `finalize_variable_values`, by `flush`, and by `callbacks.EvaluateAveraged`. Every
    32nd step also brings the next rows of the table in turn up to date, as many as its
    gradient has. In a table of `V` rows, of which gradients have `n`, no row is ever
    more than `min(32 * ceil(V / n), 16384)` steps behind. Under `tf.distribute` with
    several replicas `"deferred"` is the same as `"dense"`, and `"lazy"` is an error.

    With `use_ema` and in schedule-free optimizers the evaluation point is not the
    training point. `fit` ends at the former; `to_evaluation`, `to_training` and
    `callbacks.EvaluateAveraged` move the variables there and back in between.

    Raises:
        TypeError: An argument is unknown.
        ValueError: A hyper-parameter is outside its constraint, `sparse` is not one of
            the three modes, or the optimizer does not support the mode.

    Example:

    >>> import keras
    >>> from keras_adaptive.optimizers import (
    ...     DECAY_RATE, AdaptiveOptimizer, LearningRate, Slot, hyperparameter
    ... )
    >>> @keras.saving.register_keras_serializable("my_package")
    ... class SignMomentum(AdaptiveOptimizer):
    ...     learning_rate: LearningRate = hyperparameter(0.001)
    ...     beta: float = hyperparameter(0.9, DECAY_RATE)
    ...     slots = {"momentum": Slot()}
    ...
    ...     def rule(self, gradient, state, hyper):
    ...         m = hyper.beta * state["momentum"] + (1 - hyper.beta) * gradient
    ...         return hyper.learning_rate * keras.ops.sign(m), {"momentum": m}
    >>>
    >>> SignMomentum(0.01, beta=0.95, clipnorm=1.0).get_config()["beta"]
    0.95
    """

    def __init__(self, learning_rate: LearningRate, **arguments: Any) -> None:
        declared = type(self).hyperparameters
        for name in arguments:
            if name not in declared:
                self.refuse_argument(name)
        for name, value in {"learning_rate": learning_rate, **arguments}.items():
            self.check_constraint(name, value)
        options = {n: h.default for n, h in declared.items() if h.kw_only} | arguments
        by_keras = AdaptiveOptimizer.hyperparameters.keys() - {"learning_rate"}
        super().__init__(
            learning_rate,
            **{n: options.pop(n) for n in by_keras if n not in OWN_OPTIONS},
        )
        for name, value in options.items():
            setattr(self, name, value)
        self._engine = Engine(self.add_variable, self._beside)
        self.complete()
        refused = self.refused_modes()
        self.sparse = sparse_mode(type(self).__name__, self.sparse, refused)

    @override
    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor; see Keras."""
        config = super().get_config()
        for name in type(self).__signature__.parameters:
            if name not in config:
                config[name] = getattr(self, name)
        return config

    # State.

    @override
    def build(self, variables: Iterable[keras.Variable]) -> None:
        """Creates the state for the variables; called by the first `apply`.

        Args:
            variables: The variables to train.
        """
        if self.built:
            return
        variables = list(variables)
        super().build(variables)
        averages = self._model_variables_moving_average if self.use_ema else ()
        sums = self._accumulated_gradients if self.gradient_accumulation_steps else ()
        states, without_slots = [], set()
        for i, variable in enumerate(variables):
            by_fallback = bool(self.fallback and self.uses_fallback(variable))
            algorithm = self.fallback if by_fallback else self
            decays = self._use_weight_decay(variable)
            state = VariableState(i, variable, algorithm, by_fallback, decays)
            state.average = averages[i] if averages else None
            state.accumulator = sums[i] if sums else None
            states.append(state)
            if self._overwrite_variable_with_gradient(variable):
                without_slots.add(i)
        self._engine.build(states, without_slots, self, self._context(0.0))
        self._load_what_waits()

    @override
    def add_variable_from_reference(
        self,
        reference_variable: Any,
        name: str | None = None,
        initializer: Any = "zeros",
    ) -> keras.Variable:
        """Adds a variable like another, as Keras does but never in 16 bits."""
        shape, dtype = (
            tuple(reference_variable.shape),
            compute_dtype(reference_variable),
        )
        return self._engine.factory.like(
            reference_variable, name or "var", shape, dtype, initializer
        )

    def _beside(self, variable: Any) -> contextlib.AbstractContextManager[Any]:
        if not ON_TENSORFLOW:
            return contextlib.nullcontext()
        extended = self._distribution_strategy.extended
        return extended.colocate_vars_with(rows.raw(variable))

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables of the optimizer, without the state of rows."""
        return self._engine.listed(super().variables)

    def _named_variables(self) -> dict[str, keras.Variable]:
        named = {"iteration": self._iterations}
        if isinstance(self._learning_rate, keras.Variable):
            named["learning_rate"] = self._learning_rate
        return named | self._engine.named_variables()

    def _variables_to_save(self) -> dict[str, keras.Variable]:
        return self._named_variables() | self._engine.named_row_state()

    def _load(self, saved: dict[str, Any]) -> None:
        named, context = self._named_variables(), self._context(0.0)
        self._engine.load(self._owner, saved, named, context)

    # One call of `apply`.

    @override
    def apply(self, grads: Iterable[Any], trainable_variables: Any = None) -> None:
        """Updates the variables; sparse gradients are first summed by row.

        Args:
            grads: Gradients, one for each variable: float tensors of the shapes of
                the variables, `tf.IndexedSlices`, or `None`.
            trainable_variables: The variables; by default those built for.

        Raises:
            ValueError: A gradient has not its variable's shape, or no float dtype,
                or a sparse gradient has no rows.
            tf.errors.InvalidArgumentError: Row ids are out of range, or there are
                none (where that is known at run time only).
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
        for gradient, variable in zip(grads, variables, strict=True):
            check_gradient(gradient, variable)
        if not self.built:
            with keras.name_scope(self.name):
                self.build(variables)
        self._check_variables_are_known(variables)
        states = [self._state_of(variable) for variable in variables]
        by_row = self._engine.by_row(grads, states, self._context)
        with after_checks(grads, by_row):
            super().apply(by_row, trainable_variables)

    def _state_of(self, variable: Any) -> VariableState:
        return self._engine.states[self._get_variable_index(variable)]

    def _context(self, learning_rate: Any = None) -> StepContext:
        rate = self.learning_rate if learning_rate is None else learning_rate
        return StepContext(
            calls=self._iterations,
            iterations=self.iterations,
            learning_rate=rate,
            fallback_learning_rate=self.fallback_learning_rate(rate),
            global_state=self._engine.global_state,
            global_state_before=self._engine.global_state,
            row_algorithm=self.fallback or self,
            cautious=self.cautious,
            sparse=self.sparse,
            ema_momentum=self.ema_momentum if self.use_ema else None,
            accumulation=self.gradient_accumulation_steps,
            replicated=self._replicated,
        )

    @property
    def _replicated(self) -> bool:
        return ON_TENSORFLOW and self._distribution_strategy.num_replicas_in_sync > 1

    @override
    def _backend_apply_gradients(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any]
    ) -> None:
        engine, context = self._engine, self._context()
        states = [self._state_of(variable) for variable in trainable_variables]
        grads = [
            map_values(partial(ops.cast, dtype=state.dtype), gradient)
            for gradient, state in zip(grads, states, strict=True)
        ]
        if context.replicated:
            # Before anything that is not linear is done.
            summed = self._all_reduce_sum_gradients(
                zip(grads, trainable_variables, strict=True)
            )
            grads = [gradient for gradient, _ in summed]
        pairs = list(zip(grads, states, strict=True))
        engine.to_training(context)
        update = accumulation.update_or_accumulate(
            pairs, context, engine.rows, self._update, self._conditionally
        )
        if self.use_ema:
            self._update_model_variables_moving_average(self._trainable_variables)
        engine.catch_up(update, pairs, context)
        if self.use_ema and self.ema_overwrite_frequency:
            calls = self._iterations + 1
            self._conditionally(
                accumulation.is_multiple(
                    self.iterations + 1, self.ema_overwrite_frequency
                ),
                lambda: engine.overwrite_by_averages(engine.states, context, calls),
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
        if type(self).update_step is AdaptiveOptimizer.update_step:
            self._engine.update(pairs, context)
            return
        with self._engine.during(context):
            for gradient, state in pairs:
                self.update_step(gradient, state.variable, context.learning_rate)

    @override
    def _clip_gradients(self, grads: Sequence[Any]) -> list[Any]:
        # The zeros that a sparse gradient leaves out change no norm.
        clipped = super()._clip_gradients(
            [g.values if is_rows(g) else g for g in grads]
        )
        return [
            map_values(lambda _, c=c: c, g) for g, c in zip(grads, clipped, strict=True)
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

    # Weight decay.

    @override
    def exclude_from_weight_decay(
        self, var_list: Any = None, var_names: Any = None
    ) -> None:
        """Excludes variables from weight decay; to be called before `build`.

        Args:
            var_list: Variables to exclude.
            var_names: Regular expressions: a variable in whose path (such as
                `"dense/bias"`) one of them is found is excluded.
        """
        super().exclude_from_weight_decay(var_list, var_names)

    @override
    def _use_weight_decay(self, variable: Any) -> bool:
        # Keras looks at the path on TensorFlow and at the bare name elsewhere.
        pattern = getattr(self, "_exclude_from_weight_decay_pattern", None)
        path = getattr(variable, "path", variable.name)
        if pattern is not None and re.search(pattern, path):
            return False
        return super()._use_weight_decay(variable)

    # Points at which to evaluate.

    @override
    def _update_model_variables_moving_average(
        self, trainable_variables: Sequence[Any]
    ) -> None:
        states = [self._state_of(variable) for variable in trainable_variables]
        self._engine.update_averages(states, self._context(0.0))


AdaptiveOptimizer.__doc__ = documented(AdaptiveOptimizer, with_options=True)
