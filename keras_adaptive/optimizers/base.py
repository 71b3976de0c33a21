"""The adapter to Keras: turns an algorithm into a `keras.optimizers.Optimizer`.

The hooks that Keras calls are here and in `adapter`; the work is done in `engine`.
Private hooks of Keras are overridden nowhere else. `tests/optimizers/test_hooks.py`
names them all, so that a Keras release which drops one is noticed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import keras

from keras_adaptive.optimizers.adapter.decaying import DecaysVariables
from keras_adaptive.optimizers.adapter.evaluating import EvaluatesElsewhere
from keras_adaptive.optimizers.contract.hyperparameters import documented
from keras_adaptive.optimizers.contract.options import LearningRate
from keras_adaptive.optimizers.contract.override import override
from keras_adaptive.optimizers.engine.backend import (
    ON_TENSORFLOW,
    compute_dtype,
    raw,
)
from keras_adaptive.optimizers.engine.checkpoint import SavedByName
from keras_adaptive.optimizers.engine.engine import Engine
from keras_adaptive.optimizers.engine.step import StepContext, VariableState

if ON_TENSORFLOW:
    pass

OWN_OPTIONS = ("cautious", "sparse")
"""The options that Keras's optimizers do not have."""


class AdaptiveOptimizer(EvaluatesElsewhere, SavedByName, DecaysVariables):
    """Base class: an update rule, written once, becomes a Keras optimizer.

    A subclass declares its hyper-parameters and its state (`slots`), and defines one
    step (`rule`), free of side effects; `contract.Algorithm` lists everything that it
    may define. From these come dense and sparse updates on every Keras backend, all of
    Keras's base options, mixed precision, serialization and exact resumption.

    State is kept in the dtype of the variable, and in float32 for variables of 16
    bits; the rule computes in the same dtype. Gradients are summed over repeated rows
    before anything else is done to them.

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
    ...     learning_rate: LearningRate = hyperparameter(default=0.001)
    ...     beta: float = hyperparameter(DECAY_RATE, default=0.9)
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
        self.sparse = self.checked_sparse_mode()

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
        self.checked_sparse_mode()
        variables = list(variables)
        super().build(variables)
        accumulates = bool(self.gradient_accumulation_steps)
        self._engine.build(
            self,
            variables,
            self._context(0.0),
            decays=self._use_weight_decay,
            updates=lambda v: not self._overwrite_variable_with_gradient(v),
            averages=self._model_variables_moving_average if self.use_ema else None,
            accumulators=self._accumulated_gradients if accumulates else None,
        )
        self._load_what_waits()

    @override
    def add_variable_from_reference(
        self,
        reference_variable: Any,
        name: str | None = None,
        initializer: Any = "zeros",
    ) -> keras.Variable:
        """Adds a variable like another, as Keras does but never in 16 bits."""
        return self._engine.factory.like(
            reference_variable,
            name or "var",
            tuple(reference_variable.shape),
            compute_dtype(reference_variable),
            initializer,
        )

    def _beside(self, variable: Any) -> contextlib.AbstractContextManager[Any]:
        if not ON_TENSORFLOW:
            return contextlib.nullcontext()
        extended = self._distribution_strategy.extended
        return extended.colocate_vars_with(raw(variable))

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

    # One step.

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
            sparse=str(self.sparse),
            ema_momentum=self.ema_momentum if self.use_ema else None,
            accumulation=self.gradient_accumulation_steps,
            replicated=self._replicated,
        )

    @property
    def _replicated(self) -> bool:
        return ON_TENSORFLOW and self._distribution_strategy.num_replicas_in_sync > 1


AdaptiveOptimizer.__doc__ = documented(AdaptiveOptimizer, with_options=True)
