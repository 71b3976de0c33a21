"""What Lookahead, SAM and Mechanic share: an optimizer around an optimizer."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar, NoReturn

import keras
from keras import ops

from keras_adaptive.optimizers.contract import PARAMETER, Declared, Slot, hyperparameter
from keras_adaptive.optimizers.contract.norms import squared_norm
from keras_adaptive.optimizers.contract.options import Options
from keras_adaptive.optimizers.contract.override import override
from keras_adaptive.optimizers.engine.backend import (
    ON_TENSORFLOW,
    is_sparse,
    outside_of_graphs,
)
from keras_adaptive.optimizers.engine.checkpoint import SavedByName
from keras_adaptive.optimizers.engine.conditional import branch, nothing
from keras_adaptive.optimizers.engine.gradients import check_count
from keras_adaptive.optimizers.engine.variables import VariableFactory

if ON_TENSORFLOW:
    import tensorflow as tf

    from keras_adaptive.optimizers.engine.tensorflow import rows

OF_THE_OPTIMIZER = Options.hyperparameters.keys() - {"name"}
"""Arguments that the wrapped optimizer takes and the wrapper does not."""


class Wrapper(SavedByName, Declared, keras.optimizers.Optimizer):
    """An optimizer around any Keras optimizer, ours or Keras's own.

    Learning rate, schedules, clipping, weight decay, moving average, accumulation
    and loss scale are those of the wrapped optimizer: `learning_rate`, `iterations`
    and `loss_scale_factor` read and set its own.

    Subclasses declare their hyper-parameters as an `AdaptiveOptimizer` does, and define

    - `_advance(grads, variables, apply)`: one call of `apply`. The argument `apply`
      calls that of the wrapped optimizer;
    - `slots`, as for an `AdaptiveOptimizer`. A slot that starts as a copy of the
      variable is copied again by the first call, so that weights may be loaded between
      `build` and training;
    - optionally `_add_numbers(factory)`: adds state that belongs to no variable;
    - optionally `_check_optimizer(variables)`: raises what cannot be wrapped, when the
      wrapper is made (without variables) and when it is built.

    Raises:
        TypeError: `optimizer` is none, or an argument belongs to it.
        ValueError: A hyper-parameter is outside its constraint, or `optimizer` is a
            `LossScaleOptimizer`.
    """

    optimizer: Any = hyperparameter(
        doc="""The optimizer to wrap: an instance, a name or a config. Its arguments
        (`clipnorm`, `weight_decay`, ...) are given to itself."""
    )
    name: str | None = hyperparameter(None, kw_only=True, doc="Name of the wrapper.")

    slots: Mapping[str, Slot] = {}

    def __init__(
        self, optimizer: Any, name: str | None = None, **arguments: Any
    ) -> None:
        for argument in arguments:
            if argument not in type(self).hyperparameters:
                self.refuse_argument(argument)
        # For a function Keras makes no variable.
        super().__init__(self._current_learning_rate, name=name)
        self.optimizer = _optimizer(optimizer, type(self).__name__)
        self._state: dict[str, dict[int, keras.Variable]] = {}
        self._numbers: dict[str, keras.Variable] = {}
        for argument, value in arguments.items():
            setattr(self, argument, value)
        self._check_optimizer([])

    @classmethod
    @override
    def refuse_argument(cls, name: str) -> NoReturn:
        """Raises the error about an argument that the wrapper does not take."""
        hint = " Give it to the optimizer in it." if name in OF_THE_OPTIMIZER else ""
        raise TypeError(f"{cls.__name__} has no argument `{name}`.{hint}")

    def __setattr__(self, name: str, value: Any) -> None:
        inner = name in OF_THE_OPTIMIZER and not hasattr(type(self), name)
        if inner and self._wraps():
            raise AttributeError(
                f"{type(self).__name__} has no `{name}`: set "
                f"`optimizer.optimizer.{name}`, that of the optimizer in it."
            )
        super().__setattr__(name, value)

    def _wraps(self) -> bool:
        """Returns whether there is an optimizer; not while Keras's constructor runs."""
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

    @override
    def build(self, variables: Iterable[keras.Variable]) -> None:
        """Creates the state for the variables; called by the first `apply`.

        Args:
            variables: The variables to train.
        """
        if self.built:
            return
        variables = list(variables)
        self.optimizer.build(variables)
        # By now a `MultiOptimizer` knows its optimizers.
        self._check_optimizer(variables)
        super().build(variables)
        factory = VariableFactory(self.add_variable, lambda _: contextlib.nullcontext())
        with outside_of_graphs():
            for name, slot in self.slots.items():
                self._state[name] = {
                    i: factory.slot(variable, name, slot)
                    for i, variable in enumerate(variables)
                    if not self._overwrite_variable_with_gradient(variable)
                }
            self._add_numbers(factory)
        self._load_what_waits()

    def _check_optimizer(self, variables: list[keras.Variable]) -> None:
        pass

    def _add_numbers(self, factory: VariableFactory) -> None:
        pass

    @property
    def _kept(self) -> dict[int, keras.Variable]:
        """The variables of the only slot."""
        (kept,) = self._state.values()
        return kept

    def _named_variables(self) -> dict[str, keras.Variable]:
        """Returns the wrapper's own state; Keras also saves the optimizer in it."""
        named = {"iteration": self._iterations, **self._numbers}
        for name, slots in self._state.items():
            named.update({f"{name}:{i}": v for i, v in slots.items()})
        return named

    @property
    def _owner(self) -> str:
        """Whose state it is, such as `"Lookahead(Adam)"`."""
        inner = getattr(self.optimizer, "_owner", type(self.optimizer).__name__)
        return f"{type(self).__name__}({inner})"

    @override
    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor; see Keras."""
        names = type(self).__signature__.parameters
        config = {name: getattr(self, name) for name in names}
        config["optimizer"] = keras.saving.serialize_keras_object(self.optimizer)
        return {**config, "name": self.name}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Wrapper:
        """Makes a wrapper from what `get_config` returned; see Keras."""
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
        check_count(grads, variables)
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
        return ON_TENSORFLOW and self._distribution_strategy.num_replicas_in_sync > 1

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
        if not is_sparse(gradient):
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

    def _add_numbers(self, factory: VariableFactory) -> None:
        self._numbers["evaluating"] = factory.number("evaluating", "bool")

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
