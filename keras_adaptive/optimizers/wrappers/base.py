"""Optimizers that wrap an optimizer: what Lookahead, SAM and Mechanic share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from keras_adaptive.optimizers.base import (
    OPTION_BOUNDS,
    _by_index,
    _compute_dtype,
    _is_sparse,
    _named_parameters,
    _outside_of_graphs,
)
from keras_adaptive.optimizers.catalogue.shared.norms import squared_norm
from keras_adaptive.optimizers.contract.constraints import Interval
from keras_adaptive.optimizers.contract.slot import PARAMETER, Slot
from keras_adaptive.optimizers.engine import checkpoint as saved_state
from keras_adaptive.optimizers.engine.conditional import branch, nothing

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    from keras_adaptive.optimizers.engine.tensorflow import rows

OPTIONS = {*OPTION_BOUNDS, "use_ema", "sparse", "cautious"}
"""Arguments that the wrapped optimizer takes and the wrapper does not."""


class Wrapper(keras.optimizers.Optimizer):
    """An optimizer around any Keras optimizer, ours or Keras's own.

    Learning rate, schedules, clipping, weight decay, moving average, accumulation
    and loss scale are those of the wrapped optimizer: `learning_rate`, `iterations`
    and `loss_scale_factor` read and set its own.

    Args:
        optimizer: A `keras.optimizers.Optimizer`, its name, or its config.
        name: Name of the wrapper.
        **options: Not for wrappers; named in the error.

    Subclasses define

    - `_advance(grads, variables, apply)`: one call of `apply`; the argument `apply`
      is to call that of the optimizer in it;
    - `slots` and `bounds`, as for an `AdaptiveOptimizer`. A slot that starts as a copy
      of the variable is copied again by the first call, so that weights may be
      loaded between `build` and training;
    - optionally `_add_numbers()`: creates state that belongs to no variable, by
      `_add_number`;
    - optionally `_check_optimizer(variables)`: raises what cannot be wrapped, when the
      wrapper is made (without variables) and when it is built.

    Raises:
        TypeError: `optimizer` is none, or an argument belongs to it.
        ValueError: A hyper-parameter is outside its bounds, or `optimizer` is a
            `LossScaleOptimizer`.
    """

    slots: Mapping[str, Slot] = {}
    bounds: ClassVar[Mapping[str, Interval]] = {}

    def __init__(self, optimizer, *, name: str | None = None, **options):
        for option in options:
            hint = " Give it to the optimizer in it." if option in OPTIONS else ""
            raise TypeError(f"{type(self).__name__} has no argument `{option}`.{hint}")
        # For a function Keras makes no variable.
        super().__init__(self._current_learning_rate, name=name)
        self.optimizer = _optimizer(optimizer, type(self).__name__)
        self._state: dict[str, dict[int, keras.Variable]] = {}
        self._numbers: dict[str, keras.Variable] = {}
        self._loaded_before_build: dict[str, np.ndarray] | None = None
        self._check_optimizer([])

    def __setattr__(self, name: str, value):
        owner = type(self).__name__
        if name in type(self).bounds:
            type(self).bounds[name].check(owner, name, value)
        if name in OPTIONS and not hasattr(type(self), name) and self._wraps():
            raise AttributeError(
                f"{owner} has no `{name}`: set `optimizer.optimizer.{name}`, that of "
                "the optimizer in it."
            )
        super().__setattr__(name, value)

    def _wraps(self) -> bool:
        """Whether there is an optimizer; not while Keras's constructor runs."""
        return "optimizer" in vars(self)

    # What is the wrapped optimizer's.

    def _current_learning_rate(self):
        return self.optimizer.learning_rate

    @property
    def learning_rate(self):
        return self.optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.optimizer.learning_rate = learning_rate

    @property
    def iterations(self):
        return self.optimizer.iterations

    @property
    def loss_scale_factor(self):
        return self.optimizer.loss_scale_factor

    @loss_scale_factor.setter
    def loss_scale_factor(self, factor):
        if self._wraps():
            self.optimizer.loss_scale_factor = factor

    def scale_loss(self, loss):
        return self.optimizer.scale_loss(loss)

    def exclude_from_weight_decay(self, var_list=None, var_names=None) -> None:
        self.optimizer.exclude_from_weight_decay(var_list, var_names)

    @property
    def variables(self) -> list[keras.Variable]:
        return super().variables + self.optimizer.variables

    # State, by name.

    def build(self, variables) -> None:
        """Creates the state for the variables; called by the first `apply`."""
        if self.built:
            return
        variables = list(variables)
        self.optimizer.build(variables)
        # By now a `MultiOptimizer` knows its optimizers.
        self._check_optimizer(variables)
        super().build(variables)
        with _outside_of_graphs():
            for name, slot in self.slots.items():
                self._state[name] = _by_index(
                    None
                    if self._overwrite_variable_with_gradient(variable)
                    else self._add_like(variable, name, slot)
                    for variable in variables
                )
            self._add_numbers()
            if self._loaded_before_build is not None:
                self._load(self._loaded_before_build)
        self._loaded_before_build = None

    def _check_optimizer(self, variables) -> None:
        pass

    def _add_like(self, variable, name: str, slot: Slot) -> keras.Variable:
        return self.add_variable(
            shape=slot.shape(tuple(variable.shape)),
            # A copy: JAX cannot donate one buffer twice.
            initializer=lambda shape, dtype: ops.copy(
                slot.initial_value(variable, shape, dtype)
            ),
            dtype=_compute_dtype(variable),
            layout=getattr(variable, "_layout", None),
            name=f"{variable.name}_{name}",
        )

    def _add_numbers(self) -> None:
        pass

    def _add_number(self, name: str, dtype: str, shape=(), initial=0) -> None:
        self._numbers[name] = self.add_variable(
            shape=shape,
            initializer=lambda shape, dtype: ops.full(shape, initial, dtype),
            dtype=dtype,
            name=name,
        )

    @property
    def _kept(self) -> dict[int, keras.Variable]:
        """The variables of the only slot."""
        (kept,) = self._state.values()
        return kept

    def _named_variables(self) -> dict[str, keras.Variable]:
        """The wrapper's own state; Keras also saves the optimizer in it."""
        named = {"iteration": self._iterations, **self._numbers}
        for name, slots in self._state.items():
            named.update({f"{name}:{i}": v for i, v in slots.items()})
        return named

    @property
    def _owner(self) -> str:
        """Whose state it is, such as `"Lookahead(Adam)"`."""
        inner = getattr(self.optimizer, "_owner", type(self.optimizer).__name__)
        return f"{type(self).__name__}({inner})"

    def save_own_variables(self, store) -> None:
        """Saves the wrapper's own state by name, if it is built."""
        if self.built:
            saved_state.write(store, self._owner, self._named_variables())

    def load_own_variables(self, store) -> None:
        """Loads what `save_own_variables` saved; before `build`, when it is built.

        Raises:
            ValueError: The state is another optimizer's, or has other names or
                shapes than this one.
        """
        saved = saved_state.read(store, self._owner)
        if saved and self.built:
            self._load(saved)
        elif saved:
            self._loaded_before_build = saved

    def _load(self, saved: dict[str, np.ndarray]) -> None:
        named = self._named_variables()
        saved_state.check(self._owner, saved, named)
        for name, value in saved.items():
            named[name].assign(value)

    def get_config(self) -> dict[str, Any]:
        names = _named_parameters(type(self).__init__)
        config = {name: getattr(self, name) for name in names}
        config["optimizer"] = keras.saving.serialize_keras_object(self.optimizer)
        return {**config, "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        optimizer = keras.saving.deserialize_keras_object(
            config["optimizer"], custom_objects=custom_objects
        )
        return cls(**{**config, "optimizer": optimizer})

    # One call of `apply`.

    def apply(self, grads, trainable_variables=None) -> None:
        """Updates the variables; see `keras.optimizers.Optimizer.apply`."""
        grads = list(grads)
        if not grads:
            return
        variables = trainable_variables
        variables = list(self._trainable_variables if variables is None else variables)
        if len(grads) != len(variables):
            raise ValueError(
                f"{len(grads)} gradients for {len(variables)} variables: "
                "each variable needs one gradient (or None)."
            )
        if all(gradient is None for gradient in grads):
            raise ValueError(f"{type(self).__name__}: no variable has a gradient.")
        with keras.name_scope(self.name):
            self.build(variables)
            self._check_variables_are_known(variables)
            pairs = zip(grads, variables, strict=True)
            grads = [self._given(gradient, variable) for gradient, variable in pairs]
            if self._replicated:
                self._advance_replicas(grads, variables)
            else:
                apply = partial(self.optimizer.apply, grads, variables)
                self._advance_one(grads, variables, apply)

    def _advance_one(self, grads, variables, apply: Callable[[], None]) -> None:
        if any(slot.initial == PARAMETER for slot in self.slots.values()):
            self._branch(ops.equal(self._iterations, 0), self._copy_again)
        self._advance(grads, variables, apply)
        self._iterations.assign_add(1)

    def _advance(self, grads, variables, apply: Callable[[], None]) -> None:
        raise NotImplementedError(
            f"{type(self).__name__} must define `_advance(grads, variables, apply)`."
        )

    @property
    def _replicated(self) -> bool:
        return (
            keras.backend.backend() == "tensorflow"
            and self._distribution_strategy.num_replicas_in_sync > 1
        )

    def _advance_replicas(self, grads, variables) -> None:
        """One call for all replicas of `tf.distribute`, with their summed gradients.

        The optimizer is called in each, with the gradients of each.
        """
        whole = [self._whole(g, v) for g, v in zip(grads, variables, strict=True)]
        pairs = zip(whole, variables, strict=True)
        sums = [gradient for gradient, _ in self._all_reduce_sum_gradients(pairs)]

        def advance(strategy, grads, sums):
            def in_each(grads):
                self.optimizer.apply(grads, variables)

            def apply():
                strategy.extended.call_for_each_replica(in_each, args=(grads,))

            first = [
                None if g is None else strategy.experimental_local_results(g)[0]
                for g in sums
            ]
            self._advance_one(first, variables, apply)

        context = tf.distribute.get_replica_context()
        context.merge_call(advance, args=(grads, sums))

    def _copy_again(self) -> None:
        for name, slot in self.slots.items():
            if slot.initial == PARAMETER:
                for i, kept in self._state[name].items():
                    write(kept, self._trainable_variables[i])

    def _branch(self, predicate, if_true, if_false=nothing, changed=None) -> None:
        """As `branch`; by default the optimizer in it is not changed."""
        branch(
            predicate,
            if_true,
            if_false,
            variables=self._trainable_variables + self.variables,
            changed=changed or self._trainable_variables + super().variables,
        )

    def _by_row(self, gradient, variable):
        """`(ids, values)` of a gradient, summed by row; `ids` is `None` if dense."""
        if not _is_sparse(gradient):
            return None, gradient
        by_row = rows.coalesce(
            gradient.indices, gradient.values, int(variable.shape[0]), variable.path
        )
        return by_row.ids, by_row.values

    def _given(self, gradient, variable):
        """A gradient as the optimizer in it gets it."""
        return gradient

    def _whole(self, gradient, variable):
        """A gradient, dense."""
        ids, values = self._by_row(gradient, variable)
        if ids is None:
            return gradient
        return rows.dense(rows.Rows(ids, values), tuple(variable.shape))

    # Points at which to evaluate.

    @property
    def evaluating(self) -> bool:
        """Whether the variables are at an evaluation point apart from training's."""
        return any(getattr(part, "evaluating", False) for part in self._parts())

    def flush(self) -> None:
        """Brings deferred rows up to date, if the optimizer in it has any."""
        self._call("flush")

    def to_evaluation(self) -> None:
        """Moves the variables to the point at which to evaluate; see `evaluating`.

        `to_training` or the next `apply` moves them back.
        """
        self._call("to_evaluation")

    def to_training(self) -> None:
        """Moves the variables back to the point at which to train, if they are not.

        `apply` does it too, but then the gradient was taken at the evaluation point.
        """
        self._call("to_training")

    def finalize_variable_values(self, var_list) -> None:
        """Moves the variables to the evaluation point; Keras does at the end of `fit`.

        Args:
            var_list: The variables of the model.
        """
        self.optimizer.finalize_variable_values(var_list)

    def _call(self, method: str) -> None:
        for part in self._parts():
            getattr(part, method, nothing)()

    def _parts(self) -> list[keras.optimizers.Optimizer]:
        """The optimizer in it, or those in a `MultiOptimizer`."""
        return getattr(self.optimizer, "optimizers", [self.optimizer])


class TwoPointWrapper(Wrapper):
    """A wrapper that is not evaluated where its gradients are taken.

    The only slot holds the weights of the other point. While `evaluating` the variables
    and that slot have changed places.

    Subclasses define `_swap`, which makes them do so; `_resume`, what to do if a call
    of `apply` finds the variables at the evaluation point; and `_advance_from_training`
    in place of `_advance`.
    """

    swaps_last: ClassVar[bool]
    """Whether the optimizer in it goes to its own evaluation point first."""

    def _add_numbers(self) -> None:
        self._add_number("evaluating", "bool")

    def _swap(self) -> None:
        for i, kept in self._kept.items():
            variable = self._trainable_variables[i]
            old = ops.copy(variable)
            write(variable, kept)
            write(kept, old)

    def _resume(self) -> None:
        raise NotImplementedError

    def _advance(self, grads, variables, apply) -> None:
        evaluating = self._numbers["evaluating"]
        self._branch(evaluating, self._resume)
        evaluating.assign(False)
        self._advance_from_training(grads, variables, apply)

    @property
    def evaluating(self) -> bool:
        return self.built and bool(ops.convert_to_numpy(self._numbers["evaluating"]))

    def to_evaluation(self) -> None:
        self._move(super().to_evaluation, arrived=True)

    def to_training(self) -> None:
        self._move(super().to_training, arrived=False)

    def finalize_variable_values(self, var_list) -> None:
        finalize = partial(super().finalize_variable_values, var_list)
        self._move(finalize, arrived=True)

    def _move(self, move_optimizer: Callable[[], None], arrived: bool) -> None:
        if not self.built:
            return
        steps = [self._swap, move_optimizer]
        if self.swaps_last == arrived:
            steps.reverse()

        def move():
            for step in steps:
                step()

        evaluating = self._numbers["evaluating"]
        self._branch(
            ops.not_equal(evaluating, arrived),
            move,
            changed=self._trainable_variables + self.variables,
        )
        evaluating.assign(arrived)


def _optimizer(identifier, owner: str) -> keras.optimizers.Optimizer:
    """What a wrapper is given, as an optimizer."""
    if isinstance(identifier, (str, dict)):
        # Keras changes a config that it reads.
        identifier = keras.optimizers.get(copy.copy(identifier))
    if not isinstance(identifier, keras.optimizers.Optimizer):
        raise TypeError(
            f"{owner}: `optimizer` must be a Keras optimizer, its name or its config. "
            f"Received: optimizer={identifier!r}"
        )
    if isinstance(identifier, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            f"{owner} cannot wrap a LossScaleOptimizer. Put that outside: "
            f"LossScaleOptimizer({owner}(...))."
        )
    return identifier


def nested(optimizer) -> Iterator[keras.optimizers.Optimizer]:
    """An optimizer and all that it holds."""
    yield optimizer
    inner = getattr(optimizer, "optimizer", None)
    for held in [inner, *getattr(optimizer, "optimizers", [])]:
        if held is not None:
            yield from nested(held)


def write(variable, value) -> None:
    """Assigns a copy: two variables of JAX must not share a buffer."""
    variable.assign(ops.cast(ops.copy(value), variable.dtype))


def constrained(variable, value):
    """The value that a variable has after its constraint."""
    value = ops.cast(value, variable.dtype)
    return value if variable.constraint is None else variable.constraint(value)


def norm(tensors: Iterable):
    """The norm of several tensors together, 1e-12 away from zero."""
    squares = [squared_norm(tensor) for tensor in tensors]
    dtype = widest(squares)
    total = sum(ops.cast(square, dtype) for square in squares)
    return ops.sqrt(total) + ops.convert_to_tensor(1e-12, dtype)


def widest(tensors: Iterable) -> str:
    """The float dtype that holds the values of all tensors."""
    # `keras.backend.result_type` makes float32 of float64.
    dtypes = {keras.backend.standardize_dtype(tensor.dtype) for tensor in tensors}
    return "float64" if "float64" in dtypes else "float32"
