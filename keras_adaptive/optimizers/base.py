"""The adapter to Keras: turns an algorithm into a `keras.optimizers.Optimizer`.

The hooks that Keras calls are here and in `adapter`; the work is done in `engine`.
Private hooks of Keras are overridden nowhere else. `tests/optimizers/test_hooks.py`
names them all, so that a Keras release which drops one is noticed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from keras_adaptive.optimizers.adapter import keras_state
from keras_adaptive.optimizers.adapter.decaying import DecaysVariables
from keras_adaptive.optimizers.adapter.evaluating import EvaluatesElsewhere
from keras_adaptive.optimizers.contract.hyperparameters import documented
from keras_adaptive.optimizers.contract.options import LearningRate, check_settable
from keras_adaptive.optimizers.contract.override import override
from keras_adaptive.optimizers.engine.backend import (
    ON_TENSORFLOW,
    ON_TORCH,
    compute_dtype,
    in_own_dtype,
    outside_of_step,
    raw,
)
from keras_adaptive.optimizers.engine.checkpoint import SavedByName, set_variables
from keras_adaptive.optimizers.engine.engine import Engine
from keras_adaptive.optimizers.engine.gradients import check_variables
from keras_adaptive.optimizers.engine.sparse import tables
from keras_adaptive.optimizers.engine.step import StepContext, VariableState
from keras_adaptive.plain_numbers import plain

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
        arguments = {name: plain(value) for name, value in arguments.items()}
        learning_rate = plain(learning_rate)
        for name, value in {"learning_rate": learning_rate, **arguments}.items():
            self.check_constraint(name, value)
        if isinstance(learning_rate, int):
            learning_rate = float(learning_rate)
        options = {n: h.default for n, h in declared.items() if h.kw_only} | arguments
        by_keras = AdaptiveOptimizer.hyperparameters.keys() - {"learning_rate"}
        super().__init__(
            learning_rate,
            **{n: options.pop(n) for n in by_keras if n not in OWN_OPTIONS},
        )
        for name, value in options.items():
            setattr(self, name, value)
        self._loss_scaled_outside = False
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

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "learning_rate":
            check_settable(self, plain(value))
        if name == "loss_scale_factor" and "_engine" in vars(self):
            self._loss_scaled_outside = value is None
        super().__setattr__(name, value)

    # State.

    @override
    def build(self, variables: Iterable[keras.Variable]) -> None:
        """Creates the state for the variables; called by the first `apply`.

        Args:
            variables: The variables to train.

        Raises:
            ValueError: A variable is complex, or its shape is not fixed.
        """
        variables = list(variables)
        if self.built or not variables:
            return
        check_variables(variables)
        self.checked_sparse_mode()
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
        for variable in variables:
            tables.claim(variable, self)
        self._load_what_waits()

    def rows_now(self, variable: keras.Variable, ids: Any) -> Any:
        """Returns rows of a variable after all steps so far, and writes nothing.

        A deferred table has rows that are behind. `layers.Embedding` reads them so.

        Args:
            variable: A variable that the optimizer was built for.
            ids: int64 tensor of shape `(n,)`, row ids.

        Returns:
            A tensor of shape `(n, ...)` and of the variable's dtype.
        """
        with in_own_dtype():
            state, context = self._state_of(variable), self._context()
            return self._engine.rows_now(state, ids, context)

    def may_be_behind(self, variable: keras.Variable) -> bool:
        """Returns whether `rows_now` may differ from the rows in the table.

        Args:
            variable: A variable that the optimizer was built for.
        """
        return self._engine.has_clock(self._state_of(variable))

    @property
    def sees_sparse_gradients(self) -> bool:
        """Whether a layer may give sparse gradients to this optimizer.

        On PyTorch, Keras's `LossScaleOptimizer` cannot look for infinities in them. It
        sets the `loss_scale_factor` of the optimizer inside it to `None`.
        """
        return not (ON_TORCH and self._loss_scaled_outside)

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
    def _model_variables_moving_average(self) -> list[keras.Variable]:
        # Keras's `SwapEMAWeights` swaps them with the weights: first all rows catch up.
        if "_moving_averages" not in vars(self):
            raise AttributeError("There is no moving average without `use_ema`.")
        if self.built and outside_of_step():
            self.flush()
        return self._moving_averages

    @_model_variables_moving_average.setter
    def _model_variables_moving_average(self, averages: list[keras.Variable]) -> None:
        self._moving_averages = averages

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables of the optimizer, without the state of rows.

        To keep all state and to put it back, call `get_state` and `set_state`.
        """
        return self._engine.listed(super().variables)

    def _set_listed(self, values: list[Any]) -> None:
        set_variables(self._owner, self.variables, values)
        self._engine.load({}, {}, self._context(0.0))

    def _named_variables(self) -> dict[str, keras.Variable]:
        named = {"iteration": self._iterations}
        if isinstance(self._learning_rate, keras.Variable):
            named["learning_rate"] = self._learning_rate
        return named | self._engine.named_variables()

    def _variables_to_save(self) -> dict[str, keras.Variable]:
        return self._named_variables() | self._engine.named_row_state()

    def _initial_value(self, name: str) -> Any:
        return 0 if name == "iteration" else self._engine.initial_value(name)

    def _load(self, state: Mapping[str, Any]) -> None:
        self._engine.load(state, self._named_variables(), self._context(0.0))
        self._engine.factory.forget_late_slots()

    def _check_writer(self, store: Any) -> None:
        keras_state.check_writer(self, store)

    def _translated(self, saved: Mapping[str, Any]) -> dict[str, Any]:
        return keras_state.translated(self, saved, self._named_variables())

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
