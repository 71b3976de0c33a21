"""The base of every optimizer: turns a pure update rule into a Keras optimizer.

The only place that overrides Keras's private hooks; `tests/optimizers/test_hooks.py`
names them all, so that a Keras release which drops one is noticed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import inspect
import itertools
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from keras_adaptive.optimizers.contract.constraints import (
    NON_NEGATIVE,
    POSITIVE,
    Interval,
)
from keras_adaptive.optimizers.contract.slot import PARAMETER, Hyper, Slot
from keras_adaptive.optimizers.engine import checkpoint as saved_state
from keras_adaptive.optimizers.engine.conditional import branch
from keras_adaptive.optimizers.engine.evaluation_point import EvaluationPoint
from keras_adaptive.optimizers.engine.tensorflow.catch_up import standing_still

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    from keras_adaptive.optimizers.engine.tensorflow import rows
    from keras_adaptive.optimizers.engine.tensorflow.fused import FusedUpdates
    from keras_adaptive.optimizers.engine.tensorflow.row_updates import SparseUpdates

PACKAGE = "keras_adaptive"

SPARSE_MODES = ("deferred", "lazy", "dense")

ROW_STATE = "row_"
"""What the saved names of the state of `SparseUpdates` begin with."""

OPTION_BOUNDS = {
    "learning_rate": NON_NEGATIVE,
    "weight_decay": dataclasses.replace(NON_NEGATIVE, optional=True),
    "clipnorm": dataclasses.replace(POSITIVE, optional=True),
    "clipvalue": dataclasses.replace(POSITIVE, optional=True),
    "global_clipnorm": dataclasses.replace(POSITIVE, optional=True),
    "ema_momentum": Interval(0.0, 1.0),
    "ema_overwrite_frequency": Interval(1, whole=True, optional=True),
    "loss_scale_factor": dataclasses.replace(POSITIVE, optional=True),
    "gradient_accumulation_steps": Interval(2, whole=True, optional=True),
}


class AdaptiveOptimizer(keras.optimizers.Optimizer):
    """Base class: an update rule, written once, becomes a Keras optimizer.

    A subclass says what it remembers (`slots`) and how it steps (`rule`), both free
    of side effects. From these come dense and sparse updates on every Keras
    backend, all of Keras's base options, mixed precision, serialization and exact
    resumption.

    Args:
        learning_rate: A float, a `keras.optimizers.schedules.LearningRateSchedule`,
            or a callable without arguments that returns the learning rate.
        weight_decay: Float or `None`. Decoupled weight decay: before each step the
            weights shrink by `learning_rate * weight_decay` of themselves
            (arXiv:1711.05101).
        clipnorm: Float or `None`. The norm of each gradient is clipped to it.
        clipvalue: Float or `None`. Each entry of a gradient is clipped to it.
        global_clipnorm: Float or `None`. The norm of all gradients together is
            clipped to it.
        use_ema: Whether to keep an exponential moving average of the weights.
        ema_momentum: Float in `[0, 1]`, the momentum of that average.
        ema_overwrite_frequency: Int or `None`: overwrite the weights by their
            average every that many steps. They are at the end of `fit` anyway.
        loss_scale_factor: Float or `None`. The loss is multiplied, and the gradient
            divided by it.
        gradient_accumulation_steps: Int >= 2 or `None`. Update every that many
            calls, by the mean of their gradients. As in Keras, learning-rate
            schedules and the moving average count calls, not updates.
        name: Name of the optimizer.
        cautious: Leave out of each step the entries that point against the gradient,
            and scale the others by one over their share, at most 1000
            (arXiv:2411.16085). In deferred and dense updates of a table the share is
            of all entries, in lazy ones of the rows touched.
        sparse: What happens to the rows that a sparse gradient does not touch:

            - `"deferred"`: they move as if their gradient were zero, but only when
              they are next touched or flushed; then all the steps that they
              missed are made up for in closed form. It follows the dense
              trajectory at the price of the rows touched. Where the whole table
              costs less, being small or touched in most rows, it is updated whole.
            - `"lazy"`: they stand still, and so does their state.
            - `"dense"`: every step updates the whole table.

            By default `"deferred"` where the rule has a closed form, else
            `"lazy"`. Sparse gradients exist on TensorFlow only, for `Embedding`,
            `ops.take` and `Dense` on a sparse input; elsewhere every gradient is
            dense and so is every update.

    State is kept in the dtype of the variable, but in float32 for variables of 16
    bits; the rule computes in the same dtype. Gradients are summed over repeated
    rows before anything else is done to them.

    With `"deferred"`, rows are brought up to date at the end of `fit`, by
    `finalize_variable_values`, by `flush`, and by `callbacks.EvaluateAveraged`; and
    every 32nd step also brings the next rows of the table in turn up to date, as many
    as its gradient has, so that in a table of `V` rows, of which gradients have `n`,
    no row is ever more than `min(32 * ceil(V / n), 16384)` steps behind. Under
    `tf.distribute` with several replicas it is the same as `"dense"`, and `"lazy"` is
    an error.

    With `use_ema` and in schedule-free optimizers the point at which to evaluate is
    not that of training. `fit` ends at the former; `to_evaluation`, `to_training` and
    `callbacks.EvaluateAveraged` move the variables there and back in between.

    Subclasses define:

    - `slots`: a mapping from names to `Slot`s (a class attribute or a property);
    - `rule(gradient, state, hyper)`: returns the step, which is subtracted from the
      parameter, and the new state;
    - `bounds`: a mapping from names of numeric hyper-parameters to the `Interval`
      that they must lie in, checked whenever one is set;
    - optionally `idle(state, missed, hyper)`, the closed form of steps with zero
      gradient, which makes `"deferred"` possible. It returns the direction in which
      the parameter drifts (or `None`) and the state after those steps; `missed` is
      their number, a float tensor that broadcasts against the state;
    - with it, if the parameter drifts, `drift(hyper)`: returns `(rate, ratio)`; at
      the j-th missed step the parameter moves by minus `direction * rate *
      ratio**j`, with the rate of that step;
    - optionally `decayed(parameter, hyper)`, how weight decay changes the parameter
      before a step. A rule that has the decay inside (by `hyper.weight_decay`)
      returns the parameter as it is; it cannot be deferred while weights decay;
    - optionally `dense_only`: why the rule needs whole variables, and what to use
      for large tables instead. Then `sparse` can only be `"dense"`;
    - optionally `compilable = False`: XLA is not to compile the rule by itself, as for
      decompositions of matrices, for which TensorFlow has the better kernels;
    - optionally `shared_slots`, `measure` and `share`, for rules that need numbers
      summed over all variables: `measure(gradient, state, hyper)` returns numbers of
      one variable by name, `share(sums, shared, hyper)` the new values of the
      `shared_slots` from the sums over all variables and the old values; the rule
      finds them as `hyper.shared` and `hyper.shared_before`;
    - optionally `evaluation_point(parameter, state, hyper)`, for a rule that is to be
      evaluated at another point than it trains at: the parameter there and the state
      with it, and `training_point(parameter, state, hyper)`, the way back;
    - optionally `uses_fallback(variable)`: whether the variable is updated by the
      rule of `self.fallback`, another `AdaptiveOptimizer`, instead.

    Every constructor argument must be kept in the attribute of its name; then
    `get_config` needs no code.

    Raises:
        ValueError: A hyper-parameter is outside its bounds, `sparse` is not one of
            the three modes, or it is `"deferred"` without a closed form.

    Example:

    >>> import keras
    >>> from keras_adaptive.optimizers import AdaptiveOptimizer, DECAY_RATE, Slot
    >>>
    >>> @keras.saving.register_keras_serializable("my_package")
    ... class SignMomentum(AdaptiveOptimizer):
    ...     slots = {"momentum": Slot()}
    ...     bounds = {"beta": DECAY_RATE}
    ...
    ...     def __init__(self, learning_rate=0.001, beta=0.9, **options):
    ...         super().__init__(learning_rate, **options)
    ...         self.beta = beta
    ...
    ...     def rule(self, gradient, state, hyper):
    ...         m = hyper.beta * state["momentum"] + (1 - hyper.beta) * gradient
    ...         return hyper.learning_rate * keras.ops.sign(m), {"momentum": m}
    >>>
    >>> SignMomentum(0.01, beta=0.95, clipnorm=1.0).get_config()["beta"]
    0.95
    """

    slots: Mapping[str, Slot] = {}
    shared_slots: Mapping[str, Slot] = {}
    bounds: ClassVar[Mapping[str, Interval]] = {}
    idle: Callable | None = None
    evaluation_point: Callable | None = None
    training_point: Callable | None = None
    dense_only: str | None = None
    compilable: bool = True
    fallback: AdaptiveOptimizer | None = None
    row_wise: bool = False
    _sparse: SparseUpdates | None = None
    _fused: FusedUpdates | None = None

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        own = _named_parameters(cls.__init__)
        options = _named_parameters(AdaptiveOptimizer.__init__)
        cls.__signature__ = inspect.Signature(
            [*own.values(), *(p for n, p in options.items() if n not in own)]
        )

    def __init__(
        self,
        learning_rate,
        *,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        cautious: bool = False,
        sparse: str | None = None,
    ):
        if not callable(learning_rate):
            self._check_bound("learning_rate", learning_rate)
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            loss_scale_factor=loss_scale_factor,
            gradient_accumulation_steps=gradient_accumulation_steps,
            name=name,
        )
        self.cautious = cautious
        self.sparse = self._sparse_mode(sparse)
        self._shared: dict[str, keras.Variable] = {}
        self._shared_now: tuple[dict, dict] | None = None
        self._only_if = None
        self._state: dict[str, dict[int, keras.Variable]] = {}
        self._loaded_before_build: dict[str, np.ndarray] | None = None
        self._evaluation = EvaluationPoint(self)
        if keras.backend.backend() == "tensorflow":
            self._sparse = SparseUpdates(self)
            self._fused = FusedUpdates(self)

    def __setattr__(self, name: str, value):
        # A learning rate may also be a schedule, a callable or a tensor.
        number = isinstance(value, (int, float, str, type(None), np.number))
        if number or name != "learning_rate":
            self._check_bound(name, value)
        super().__setattr__(name, value)

    def _check_bound(self, name: str, value) -> None:
        bound = {**OPTION_BOUNDS, **type(self).bounds}.get(name)
        if bound is not None:
            bound.check(type(self).__name__, name, value)

    def _sparse_mode(self, sparse: str | None) -> str:
        owner = type(self).__name__
        refused = self._refused_modes()
        if sparse is None:
            return next(mode for mode in SPARSE_MODES if mode not in refused)
        if sparse not in SPARSE_MODES:
            near = difflib.get_close_matches(str(sparse), SPARSE_MODES, 1)
            raise ValueError(
                f"{owner}: `sparse` must be one of {', '.join(SPARSE_MODES)}. "
                f"Received: sparse={sparse!r}."
                + (f" Did you mean {near[0]!r}?" if near else "")
            )
        if sparse in refused:
            raise ValueError(
                f"{owner}: sparse={sparse!r} cannot be had: {refused[sparse]}"
            )
        return sparse

    def _refused_modes(self) -> dict[str, str]:
        """The modes that this optimizer does not have, and why."""
        if self.dense_only:
            return dict.fromkeys(("deferred", "lazy"), self.dense_only)
        if self._sparse_part().idle is None:
            why = (
                "it has no closed form for the steps that a row misses (no `idle` "
                "method). "
            )
        elif self._decay_is_inside and self.weight_decay:
            why = "with weight decay inside the rule it has no closed form. "
        else:
            return {}
        alternative = "Use sparse='lazy' (such rows stand still) or sparse='dense'."
        return {"deferred": why + alternative}

    def _deferred_needs(self, holds: bool, condition: str, asked: str | None) -> None:
        """Without the condition updates are lazy, or it is an error if asked for.

        Args:
            holds: Whether these arguments fulfil the condition.
            condition: The condition, and why it is one.
            asked: The argument `sparse` as it was given.
        """
        if self.sparse != "deferred" or holds:
            return
        if asked == "deferred":
            raise ValueError(
                f"{type(self).__name__}: sparse='deferred' needs {condition} Use "
                "sparse='lazy' or sparse='dense', or change these arguments."
            )
        self.sparse = "lazy"

    @property
    def _decay_is_inside(self) -> bool:
        return type(self).decayed is not AdaptiveOptimizer.decayed

    # The algorithm, for subclasses to write.

    def rule(self, gradient, state: dict[str, Any], hyper: Hyper):
        """One step of the algorithm, without side effects.

        Args:
            gradient: Tensor, the gradient of a variable or of some of its rows.
            state: The slots by name, of the gradient's shape (or one value a row).
            hyper: The hyper-parameters, the learning rate and the step number.

        Returns:
            `(step, state)`: the step is subtracted from the parameter, the state
            has all the slots.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define `rule(gradient, state, hyper)`."
        )

    def drift(self, hyper: Hyper):
        """How fast an untouched row moves; see `idle`.

        Returns:
            `(rate, ratio)`, or `None` if such rows stand still.
        """
        return None

    def _stands_still(self) -> bool:
        """Whether nothing at all changes in a row while its gradient is zero."""
        return type(self).idle is standing_still

    def decayed(self, parameter, hyper: Hyper):
        """The parameter after weight decay, before a step."""
        return parameter - parameter * hyper.weight_decay * hyper.learning_rate

    def measure(self, gradient, state: dict[str, Any], hyper: Hyper) -> dict[str, Any]:
        """Numbers of one variable, to be summed over all; see `share`."""
        return {}

    def share(self, sums: dict[str, Any], shared: dict[str, Any], hyper: Hyper):
        """The new values of `shared_slots`, from the sums of `measure`.

        Args:
            sums: The sums over all variables, by name.
            shared: The values of `shared_slots` so far.
            hyper: The hyper-parameters.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has `shared_slots` and must define "
            "`share(sums, shared, hyper)`."
        )

    def uses_fallback(self, variable) -> bool:
        """Whether a variable is updated by the rule of `fallback`."""
        return False

    def squared(self, values):
        """Squares of values; with `row_wise=True`, their mean over each row."""
        squares = ops.square(values)
        axes = tuple(range(1, len(squares.shape)))
        if not self.row_wise or not axes:
            return squares
        width = int(np.prod(squares.shape[1:]))
        return ops.sum(squares, axis=axes, keepdims=True) / ops.convert_to_tensor(
            width, squares.dtype
        )

    # State, by name.

    def build(self, variables) -> None:
        """Creates the state for the variables; called by the first `apply`."""
        if self.built:
            return
        super().build(variables)
        if self.use_ema:
            self._state["average"] = _by_index(self._model_variables_moving_average)
        if self.gradient_accumulation_steps:
            self._state["gradient_accumulator"] = _by_index(self._accumulated_gradients)
        grouped = {} if self._fused is None else self._fused.build()
        for i, variable in enumerate(variables):
            if self._overwrite_variable_with_gradient(variable):
                continue
            for name, slot in self._part(i).slots.items():
                slots = self._state.setdefault(name, {})
                slots[i] = grouped.get(name, {}).get(i) or self._add_like(
                    variable, name, slot
                )
        dtypes = [_compute_dtype(variable) for variable in variables]
        for name, slot in self.shared_slots.items():
            self._shared[name] = self.add_variable(
                shape=(),
                initializer=partial(_full, slot.initial),
                dtype="float64" if "float64" in dtypes else "float32",
                aggregation="only_first_replica",
                name=name,
            )
        self._evaluation.build()
        if self._loaded_before_build is not None:
            with _outside_of_graphs():
                self._load(self._loaded_before_build)
            self._loaded_before_build = None

    def add_variable_from_reference(
        self, reference_variable, name=None, initializer="zeros"
    ):
        """As Keras's, but never in fewer than 32 bits."""
        return self._add_aligned(
            reference_variable,
            name or "var",
            tuple(reference_variable.shape),
            _compute_dtype(reference_variable),
            initializer,
        )

    def _add_like(self, variable, name: str, slot: Slot, values=None):
        # XLA does not compile what makes a variable from the value of another.
        with _outside_of_graphs():
            values = variable if values is None else values()
            return self._add_aligned(
                variable,
                name,
                slot.shape(tuple(variable.shape)),
                _compute_dtype(variable),
                lambda shape, dtype: slot.initial_value(values, shape, dtype),
            )

    def _add_aligned(self, variable, name, shape, dtype, initializer):
        """A variable that lives where the model variable lives."""
        path = getattr(variable, "path", variable.name)
        same_shape = shape == tuple(variable.shape)
        place = contextlib.nullcontext()
        if keras.backend.backend() == "tensorflow":
            place = self._distribution_strategy.extended.colocate_vars_with(
                rows.raw(variable)
            )
        with place:
            return self.add_variable(
                shape=shape,
                initializer=initializer,
                dtype=dtype,
                layout=getattr(variable, "_layout", None) if same_shape else None,
                name=f"{re.sub('[/:]', '_', path)}_{name}",
            )

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables of the optimizer, without the row state.

        Keras's wrappers save their optimizers' variables by position; row state, made
        by the first sparse gradient, would not be there yet when they load.
        """
        row_state = {id(v) for v in self._named_row_state().values()}
        listed = [v for v in super().variables if id(v) not in row_state]
        if self._fused is None or not self._fused.groups:
            return listed
        # Instead of flat slots their parts, as each variable's own would stand there.
        slots = [
            slot
            for i, variable in enumerate(self._trainable_variables)
            if not self._overwrite_variable_with_gradient(variable)
            for slot in self._slots(i).values()
        ]
        flat = [v for group in self._fused.groups for v in group.slots.values()]
        replaced = set(map(id, [*slots, *flat]))
        others = [v for v in listed if id(v) not in replaced]
        before = itertools.takewhile(lambda v: id(v) not in replaced, listed)
        first = len(list(before))
        return others[:first] + slots + others[first:]

    def _named_variables(self) -> dict[str, keras.Variable]:
        """All but the row state, by name and index of the model variable."""
        named = {"iteration": self._iterations}
        if isinstance(self._learning_rate, keras.Variable):
            named["learning_rate"] = self._learning_rate
        if self._evaluation.reached is not None:
            named["evaluating"] = self._evaluation.reached
        named.update(self._shared)
        for name, slots in self._state.items():
            named.update({f"{name}:{i}": v for i, v in slots.items()})
        return named

    def _named_row_state(self) -> dict[str, keras.Variable]:
        return {} if self._sparse is None else self._sparse.named_variables()

    def save_own_variables(self, store) -> None:
        """Saves the state by slot name and position of the model variable.

        An optimizer that is not built has no state yet and saves nothing.
        """
        if not self.built:
            return
        named = self._named_variables() | self._named_row_state()
        saved_state.write(store, type(self).__name__, named)

    def load_own_variables(self, store) -> None:
        """Loads what `save_own_variables` saved.

        An optimizer that is not built yet loads it when it is.

        Raises:
            ValueError: The state is another optimizer's, or has other slots or
                shapes than this one.
        """
        saved = saved_state.read(store, type(self).__name__)
        if not saved:
            return
        if self.built:
            self._load(saved)
        else:
            self._loaded_before_build = saved

    def _load(self, saved: dict[str, np.ndarray]) -> None:
        """Loads a state by name."""
        row_state = {n: v for n, v in saved.items() if n.startswith(ROW_STATE)}
        state = {n: v for n, v in saved.items() if n not in row_state}
        named = self._named_variables()
        owner = type(self).__name__
        saved_state.check(owner, state, named)
        if self._sparse is None:
            _check_up_to_date(row_state, now=state["iteration"])
        else:
            self._sparse.restart(row_state, now=int(state["iteration"]))
            # Row state that was not saved had not been needed yet.
            rows = self._named_row_state()
            rows = {n: v for n, v in rows.items() if n in row_state}
            saved_state.check(owner, row_state, rows)
            state, named = saved, named | rows
        for name, value in state.items():
            named[name].assign(value)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in type(self).__signature__.parameters:
            if name not in config:
                config[name] = getattr(self, name)
        return config

    # One call of `apply`.

    def apply(self, grads, trainable_variables=None) -> None:
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
            if len(grads) != len(variables):
                raise ValueError(
                    f"{len(grads)} gradients for {len(variables)} variables: "
                    "each variable needs one gradient (or None)."
                )
        if grads and len(grads) == len(variables):
            for gradient, variable in zip(grads, variables, strict=True):
                _check_gradient(gradient, variable)
            if not self.built:
                with keras.name_scope(self.name):
                    self.build(variables)
            self._check_variables_are_known(variables)
            by_row = [
                self._by_row(g, self._get_variable_index(v))
                for g, v in zip(grads, variables, strict=True)
            ]
            with _after_checks(grads, by_row):
                super().apply(by_row, trainable_variables)
        else:
            super().apply(grads, trainable_variables)

    def _by_row(self, gradient, i: int):
        if gradient is None or self._sparse is None:
            return gradient
        return self._sparse.by_row(gradient, i)

    def _backend_apply_gradients(self, grads, trainable_variables) -> None:
        grads = [
            _map_values(lambda g, v=v: ops.cast(g, _compute_dtype(v)), g)
            for g, v in zip(grads, trainable_variables, strict=True)
        ]
        grads = self._reduced(grads, trainable_variables)
        self._evaluation.leave()
        update = True
        if self.gradient_accumulation_steps:
            self._accumulate(grads, trainable_variables)
            update = self._is_multiple(
                self._iterations + 1, self.gradient_accumulation_steps
            )

            def update_by_means():
                means = self._drained(grads, trainable_variables)
                self._update(means, trainable_variables)

            if self._replicated:
                # TensorFlow cannot merge replicas inside of a conditional.
                self._only_if = update
                update_by_means()
                self._only_if = None
            else:
                self._conditionally(update, update_by_means)
        else:
            self._update(grads, trainable_variables)
        if self.use_ema:
            self._update_model_variables_moving_average(self._trainable_variables)
        if self._sparse is not None:
            self._sparse.advance(update, self.learning_rate)
            self._sparse.take_turns(grads, trainable_variables)
        if self.use_ema and self.ema_overwrite_frequency:
            self._conditionally(
                self._is_multiple(self.iterations + 1, self.ema_overwrite_frequency),
                lambda: self._overwrite_by_average(
                    self._trainable_variables, self._iterations + 1
                ),
            )

    @staticmethod
    def _is_multiple(number, divisor: int):
        return ops.equal(ops.mod(number, divisor), 0)

    def _conditionally(self, predicate, function: Callable[[], None]) -> None:
        variables = [*self._trainable_variables, *self.variables]
        branch(predicate, function, variables=variables)

    def _reduced(self, grads, variables):
        """Sums over replicas, before anything that is not linear is done."""
        if not self._replicated:
            return grads
        pairs = zip(grads, variables, strict=True)
        return [gradient for gradient, _ in self._all_reduce_sum_gradients(pairs)]

    @property
    def _replicated(self) -> bool:
        return (
            keras.backend.backend() == "tensorflow"
            and self._distribution_strategy.num_replicas_in_sync > 1
        )

    def _accumulate(self, grads, variables) -> None:
        for gradient, variable in zip(grads, variables, strict=True):
            i = self._get_variable_index(variable)
            accumulator = self._state["gradient_accumulator"][i]
            if _is_rows(gradient):
                self._sparse.accumulate(gradient, i, accumulator)
            else:
                accumulator.assign_add(gradient)

    def _drained(self, grads, variables):
        """Means of the accumulated gradients; empties the accumulators."""
        steps = self.gradient_accumulation_steps
        means = []
        for gradient, variable in zip(grads, variables, strict=True):
            i = self._get_variable_index(variable)
            accumulator = self._state["gradient_accumulator"][i]
            if _is_rows(gradient):
                means.append(self._sparse.drained(i, accumulator) / steps)
            else:
                # A new tensor: the accumulator is about to be overwritten.
                means.append(ops.convert_to_tensor(accumulator) / steps)
                zeros = ops.zeros(accumulator.shape, accumulator.dtype)
                self._write(accumulator, zeros)
        return means

    def _update(self, grads, variables) -> None:
        learning_rate = self.learning_rate
        grads = self._clip_gradients(grads)
        if self.shared_slots:
            self._shared_now = self._newly_shared(grads, variables, learning_rate)
        self._backend_update_step(grads, variables, learning_rate)
        if self.shared_slots:
            _, after = self._shared_now
            for name, variable in self._shared.items():
                self._write(variable, after[name])
            self._shared_now = None

    def _newly_shared(self, grads, variables, learning_rate):
        """The shared values before and after this update."""
        before = {n: ops.convert_to_tensor(v) for n, v in self._shared.items()}
        dtype = keras.backend.standardize_dtype(next(iter(before.values())).dtype)
        sums: dict[str, Any] = {}
        pairs = zip(grads, variables, strict=True)
        measures = type(self).measure is not AdaptiveOptimizer.measure
        for gradient, variable in pairs if measures else ():
            i = self._get_variable_index(variable)
            hyper = self._hyper(learning_rate, self._compute_dtype(i), i)
            hyper.shared_before = hyper._cast(before)
            parameter, state = self._tensors(variable, self._slots(i), hyper.dtype)
            hyper.parameter = parameter
            for name, number in self.measure(gradient, state, hyper).items():
                number = ops.cast(number, dtype)
                sums[name] = sums[name] + number if name in sums else number
        return before, self.share(sums, before, self._hyper(learning_rate, dtype))

    def _clip_gradients(self, grads):
        # The zeros that a sparse gradient leaves out change no norm.
        clipped = super()._clip_gradients(
            [g.values if _is_rows(g) else g for g in grads]
        )
        return [
            _map_values(lambda _, c=c: c, g)
            for g, c in zip(grads, clipped, strict=True)
        ]

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        if not self._replicated:
            pairs = list(zip(grads, trainable_variables, strict=True))
            self._update_each(pairs, learning_rate)
            return

        def update_everywhere(strategy, grads, learning_rate):
            for gradient, variable in zip(grads, trainable_variables, strict=True):
                strategy.extended.update(
                    rows.raw(variable),
                    lambda v, g, lr: self.update_step(g, v, lr),
                    args=(gradient, learning_rate),
                    group=False,
                )

        tf.__internal__.distribute.interim.maybe_merge_call(
            update_everywhere, self._distribution_strategy, grads, learning_rate
        )

    def _update_each(self, pairs, learning_rate) -> None:
        overridden = type(self).update_step is not AdaptiveOptimizer.update_step
        if self._fused is not None and not overridden:
            pairs = self._fused.update(pairs, learning_rate)
        for gradient, variable in pairs:
            self.update_step(gradient, variable, learning_rate)

    def update_step(self, gradient, variable, learning_rate) -> None:
        """Updates one variable and its state by its gradient."""
        i = self._get_variable_index(variable)
        if _is_rows(gradient):
            self._sparse.update(gradient, variable, i, learning_rate)
        else:
            hyper = self._hyper(learning_rate, self._compute_dtype(i), i)
            self._update_dense(variable, self._slots(i), gradient, i, hyper)

    def _update_dense(self, variable, slots, gradient, i: int, hyper: Hyper) -> None:
        arrays = {PARAMETER: variable, **slots}
        # Everything is computed before anything is written: on some backends what
        # was read changes with the variables.
        for name, value in self._updated(arrays, gradient, i, hyper).items():
            self._write(arrays[name], value)

    def _updated(self, arrays, gradient, i: int, hyper: Hyper) -> dict[str, Any]:
        """What a variable and its slots, by name, are after an update."""
        slots = {name: array for name, array in arrays.items() if name != PARAMETER}
        parameter, old = self._tensors(arrays[PARAMETER], slots, hyper.dtype)
        parameter, state = self._advanced(parameter, old, gradient, i, hyper)
        new = {PARAMETER: parameter}
        for name in slots:
            moved = any(state[name] is old[other] for other in slots if other != name)
            # Else it would be overwritten where it came from before it is written.
            new[name] = ops.copy(state[name]) if moved else state[name]
        return {n: ops.cast(value, arrays[n].dtype) for n, value in new.items()}

    def _write(self, variable, value) -> None:
        """Overwrites a variable; only in calls that update, if that is a tensor."""
        if self._only_if is not None:
            value = ops.where(self._only_if, value, ops.convert_to_tensor(variable))
        self.assign(variable, value)

    def _tensors(self, variable, slots, dtype: str):
        """A variable and its state as tensors."""
        state = {name: _values_now(slot) for name, slot in slots.items()}
        return ops.cast(_values_now(variable), dtype), state

    def _advanced(self, parameter, state, gradient, i: int, hyper: Hyper):
        """The parameter and the state after one update, as tensors."""
        part = self._part(i)
        if self._decays(i):
            parameter = part.decayed(parameter, hyper)
        hyper.parameter = parameter
        step, state = part.rule(gradient, state, hyper)
        if self.cautious:
            step = step * self._caution(step, gradient, i)
        return parameter - step, state

    def _caution(self, step, gradient, i: int):
        """The mask of the entries that agree with the gradient, over its mean."""
        dtype = keras.backend.standardize_dtype(step.dtype)
        mask = ops.cast(step * gradient > 0, dtype)
        if self.sparse == "lazy":
            size = ops.cast(ops.size(mask), dtype)
        else:
            size = float(np.prod(self._trainable_variables[i].shape))
        return mask / ops.maximum(
            ops.sum(mask) / size, ops.convert_to_tensor(1e-3, dtype)
        )

    def _part(self, i: int) -> AdaptiveOptimizer:
        """The optimizer whose rule updates a variable: this one or its fallback."""
        if self.fallback and self.uses_fallback(self._trainable_variables[i]):
            return self.fallback
        return self

    def _sparse_part(self) -> AdaptiveOptimizer:
        """The optimizer whose rule updates rows.

        Not a property: Keras saves whatever it finds as an attribute.
        """
        return self.fallback or self

    def _hyper(self, learning_rate, dtype: str, i: int | None = None) -> Hyper:
        """The hyper-parameters for a variable, or else for rows."""
        before, after = self._shared_values()
        return self._hyper_at(dtype, i, learning_rate, self.iterations, before, after)

    def _hyper_at(
        self, dtype: str, i: int | None, learning_rate, iterations, before, after
    ) -> Hyper:
        part = self._sparse_part() if i is None else self._part(i)
        decays = i is None or self._decays(i)
        return Hyper(
            part,
            self._part_learning_rate(part, learning_rate),
            iterations,
            dtype,
            part.weight_decay if decays else 0.0,
            after,
            before,
        )

    def _shared_values(self):
        """The values of `shared_slots` before and after this update."""
        return self._shared_now or (self._shared, self._shared)

    def _part_learning_rate(self, part: AdaptiveOptimizer, learning_rate):
        return learning_rate

    def _slots(self, i: int) -> dict[str, keras.Variable]:
        return {name: self._state[name][i] for name in self._part(i).slots}

    def _compute_dtype(self, i: int) -> str:
        return _compute_dtype(self._trainable_variables[i])

    def _decays(self, i: int) -> bool:
        return self._part(i).weight_decay is not None and self._use_weight_decay(
            self._trainable_variables[i]
        )

    def exclude_from_weight_decay(self, var_list=None, var_names=None) -> None:
        """Excludes variables from weight decay; to be called before `build`.

        Args:
            var_list: Variables to exclude.
            var_names: Regular expressions: a variable in whose path (such as
                `"dense/bias"`) one of them is found is excluded.
        """
        super().exclude_from_weight_decay(var_list, var_names)

    def _use_weight_decay(self, variable) -> bool:
        # Keras looks at the path on TensorFlow and at the bare name elsewhere.
        pattern = getattr(self, "_exclude_from_weight_decay_pattern", None)
        path = getattr(variable, "path", variable.name)
        if pattern is not None and re.search(pattern, path):
            return False
        return super()._use_weight_decay(variable)

    # Points at which to evaluate.

    def _average(self, i: int):
        return self._state.get("average", {}).get(i)

    def _averaged(self, average, parameter):
        """The moving average one call later; as Keras, it starts at the weights."""
        dtype = keras.backend.standardize_dtype(average.dtype)
        momentum = self._average_momentum(dtype)
        return momentum * average + (1 - momentum) * parameter

    def _average_momentum(self, dtype: str):
        started = ops.cast(ops.not_equal(self.iterations, 0), dtype)
        return started * ops.convert_to_tensor(self.ema_momentum, dtype)

    def _update_model_variables_moving_average(self, trainable_variables) -> None:
        for variable in trainable_variables:
            i = self._get_variable_index(variable)
            average = self._average(i)
            if average is None or self._has_clock(i):
                continue
            parameter = ops.cast(ops.convert_to_tensor(variable), average.dtype)
            average.assign(self._averaged(ops.convert_to_tensor(average), parameter))

    def _has_clock(self, i: int) -> bool:
        return self._sparse is not None and self._sparse.has_clock(i)

    def _overwrite_by_average(self, variables, now) -> None:
        for variable in variables:
            i = self._get_variable_index(variable)
            average = self._average(i)
            if self._has_clock(i):
                self._sparse.flush(i, variable, now, _at_average)
            elif average is not None:
                variable.assign(ops.cast(average, variable.dtype))

    def flush(self, variables=None) -> None:
        """Brings the rows of deferred updates up to date, wherever there are any.

        Training goes on afterwards as if nothing had happened.

        Args:
            variables: The variables to bring up to date; by default all.
        """
        if variables is None:
            variables = self._trainable_variables
        for variable in variables:
            i = self._get_variable_index(variable)
            if self._has_clock(i):
                self._sparse.flush(i, variable, self._iterations)

    @property
    def evaluating(self) -> bool:
        """Whether the variables are at an evaluation point apart from training's."""
        reached = self._evaluation.reached
        return reached is not None and bool(ops.convert_to_numpy(reached))

    def to_evaluation(self) -> None:
        """Moves the variables to the point at which to evaluate; see `evaluating`.

        That is the moving average with `use_ema`, the average x of a schedule-free
        optimizer, and for any other where training is, with all rows up to date.
        There it does nothing. `to_training` or the next `apply` moves them back.
        """
        self._evaluation.enter()
        if self._evaluation.reached is None and self.built:
            self.flush()

    def to_training(self) -> None:
        """Moves the variables back to the point at which to train, if they are not.

        `apply` does it too, but then the gradient was taken at the evaluation point.
        """
        self._evaluation.visited = True
        self._evaluation.leave()

    def finalize_variable_values(self, var_list) -> None:
        """Moves the variables to the evaluation point; Keras does at the end of `fit`.

        With `use_ema` the weights are overwritten by their averages, as in Keras, and
        training would go on from there.

        Args:
            var_list: The variables of the model.
        """
        if not self.use_ema:
            self._evaluation.warn_unless_visited()
            self.to_evaluation()
            return
        self.to_training()
        self.flush(var_list)
        self._overwrite_by_average(var_list, self._iterations)


def _outside_of_graphs():
    """TensorFlow may build an optimizer while it traces the first step."""
    if keras.backend.backend() == "tensorflow":
        return tf.init_scope()
    return contextlib.nullcontext()


def _named_parameters(function) -> dict[str, inspect.Parameter]:
    return {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self"
        and parameter.kind
        not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    }


def _values_now(variable):
    """The values of a variable; TensorFlow would read them only where they are used."""
    if keras.backend.backend() == "tensorflow":
        return tf.convert_to_tensor(rows.raw(variable))
    return ops.convert_to_tensor(variable)


def _compute_dtype(variable) -> str:
    dtype = keras.backend.standardize_dtype(variable.dtype)
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def _is_sparse(gradient) -> bool:
    return keras.backend.backend() == "tensorflow" and isinstance(
        gradient, tf.IndexedSlices
    )


def _is_rows(gradient) -> bool:
    return keras.backend.backend() == "tensorflow" and isinstance(gradient, rows.Rows)


def _after_checks(grads, by_row):
    """Nothing is written before the ids of all sparse gradients have been checked."""
    checked = [
        new.ids if _is_rows(new) else new
        for old, new in zip(grads, by_row, strict=True)
        if _is_sparse(old)
    ]
    return tf.control_dependencies(checked) if checked else contextlib.nullcontext()


def _map_values(function, gradient):
    if _is_rows(gradient):
        return gradient.replace(function(gradient.values))
    return function(gradient)


def _full(value: float, shape: tuple[int, ...], dtype: str):
    return ops.full(shape, value, dtype)


def _at_average(parameter, state, average, hyper):
    return average, state, average


def _by_index(variables) -> dict[int, keras.Variable]:
    return {i: v for i, v in enumerate(variables) if v is not None}


def _check_up_to_date(row_state: dict[str, np.ndarray], now) -> None:
    """Row state means nothing on other backends, once all rows are up to date."""
    behind = [
        name
        for name, value in sorted(row_state.items())
        if (name.startswith("row_clock:") and np.any(value != now))
        or (name.startswith("row_queue_length:") and np.any(value))
    ]
    if behind:
        raise ValueError(
            "This state was saved on TensorFlow while rows of a sparse variable were "
            f"not up to date ({', '.join(behind)}), and the "
            f"{keras.backend.backend()} backend has dense gradients only. Load it on "
            "TensorFlow, call `optimizer.flush()` between two updates, and save again."
        )


def _check_gradient(gradient, variable) -> None:
    if gradient is None:
        return
    name = getattr(variable, "path", variable.name)
    dtype = keras.backend.standardize_dtype(gradient.dtype)
    if "float" not in dtype:
        raise ValueError(
            f"The gradient of '{name}' must be of a float dtype. Received: {dtype}."
        )
    expected = tuple(variable.shape)
    if _is_sparse(gradient):
        received = (*expected[:1], *gradient.values.shape[1:])
    else:
        received = tuple(gradient.shape)
    if len(received) != len(expected) or any(
        r is not None and r != e for r, e in zip(received, expected, strict=True)
    ):
        raise ValueError(
            f"The gradient of '{name}' must have the variable's shape {expected}. "
            f"Received: {received}."
        )
