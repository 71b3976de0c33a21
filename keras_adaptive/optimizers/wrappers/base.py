"""The base of optimizers that wrap another optimizer."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

import keras
from keras import ops

from keras_adaptive.optimizers.contract import PARAMETER, Declared, Slot, hyperparameter
from keras_adaptive.optimizers.contract.options import Options
from keras_adaptive.optimizers.contract.override import override
from keras_adaptive.optimizers.engine.backend import ON_TENSORFLOW, outside_of_graphs
from keras_adaptive.optimizers.engine.conditional import branch, nothing
from keras_adaptive.optimizers.engine.gradients import (
    check_count,
    check_variables,
    in_our_form,
)
from keras_adaptive.optimizers.engine.variables import VariableFactory
from keras_adaptive.optimizers.wrappers.delegation import DelegatingOptimizer
from keras_adaptive.optimizers.wrappers.gradients import dense
from keras_adaptive.optimizers.wrappers.nesting import wrapped
from keras_adaptive.optimizers.wrappers.saving import SavesWhatItWraps
from keras_adaptive.optimizers.wrappers.weights import write

if ON_TENSORFLOW:
    from keras_adaptive.optimizers.engine.tensorflow.replicas import call_together

OF_THE_OPTIMIZER = Options.hyperparameters.keys() - {"name"}
"""The arguments that the wrapped optimizer takes and the wrapper does not."""


@dataclasses.dataclass
class Kept:
    """The state of a wrapper.

    TensorFlow wraps dictionaries that are attributes of an optimizer, if Keras makes it
    within `compile`, and cannot save those whose keys are numbers. It leaves those of
    an object like this one alone.

    Args:
        slots: The variables by slot and index of the model's variable.
        numbers: The variables that belong to no variable of the model, by name.
    """

    slots: dict[str, dict[int, keras.Variable]] = dataclasses.field(
        default_factory=dict
    )
    numbers: dict[str, keras.Variable] = dataclasses.field(default_factory=dict)


class Wrapper(SavesWhatItWraps, Declared, DelegatingOptimizer):
    """Wraps any Keras optimizer, ours or Keras's own.

    Learning rate, schedules, clipping, weight decay, moving average, accumulation
    and loss scale belong to the wrapped optimizer: `learning_rate`, `iterations` and
    `loss_scale_factor` read and set its values.

    Subclasses declare their hyper-parameters as an `AdaptiveOptimizer` does. They
    define:

    - `_advance(grads, variables, apply)`: one call of `apply`. The argument `apply`
      calls that of the wrapped optimizer;
    - `slots`, as for an `AdaptiveOptimizer`. The first call copies the variable again
      into a slot that starts as its copy, so that weights may be loaded between `build`
      and training;
    - optionally `_add_numbers(factory)`: adds state that belongs to no variable;
    - optionally `_check_optimizer(variables)`: raises an error if the optimizer cannot
      be wrapped. It is called when the wrapper is made (without variables) and when it
      is built;
    - optionally `_given(gradient, variable)`: changes the gradients for the wrapped
      optimizer.

    Raises:
        TypeError: `optimizer` is no optimizer, or an argument belongs to it.
        ValueError: A hyper-parameter is outside its constraint, or `optimizer` is a
            `LossScaleOptimizer`.
    """

    optimizer: Any = hyperparameter(
        doc="""The optimizer to wrap: an instance, a name or a config. Pass its
        arguments (`clipnorm`, `weight_decay`, ...) to itself."""
    )
    name: str | None = hyperparameter(
        doc="The name of the wrapper.", default=None, kw_only=True
    )

    @property
    def slots(self) -> Mapping[str, Slot]:
        """The slots of each variable by name."""
        return {}

    def __init__(
        self, optimizer: Any, name: str | None = None, **arguments: Any
    ) -> None:
        for argument in arguments:
            if argument not in type(self).hyperparameters:
                self.refuse_argument(argument)
        # For a function Keras makes no variable.
        super().__init__(self._current_learning_rate, name=name)
        self.optimizer = wrapped(optimizer, type(self).__name__)
        self._all_kept = Kept()
        self._factory = VariableFactory(
            self.add_variable, lambda _: contextlib.nullcontext()
        )
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

    @property
    @override
    def variables(self) -> list[keras.Variable]:
        """The state of the wrapper and of the wrapped optimizer."""
        return super().variables + self.optimizer.variables

    # State, by name.

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
        self.optimizer.build(variables)
        # By now a `MultiOptimizer` knows its optimizers.
        self._check_optimizer(variables)
        super().build(variables)
        factory = self._factory
        with outside_of_graphs():
            for name, slot in self.slots.items():
                self._state[name] = {
                    i: factory.slot([variable], name, slot)
                    for i, variable in enumerate(variables)
                    if not self._overwrite_variable_with_gradient(variable)
                }
            self._add_numbers(factory)
        self._load_what_waits()

    def _check_optimizer(self, variables: list[keras.Variable]) -> None:
        """Raises an error if the optimizer cannot be wrapped."""

    def _add_numbers(self, factory: VariableFactory) -> None:
        """Adds state that belongs to no variable to `_numbers`."""

    @property
    def _state(self) -> dict[str, dict[int, keras.Variable]]:
        return self._all_kept.slots

    @property
    def _numbers(self) -> dict[str, keras.Variable]:
        return self._all_kept.numbers

    @property
    def _kept(self) -> dict[int, keras.Variable]:
        """The variables of the only slot, by the index of the model's variable."""
        (kept,) = self._state.values()
        return kept

    @override
    def _named_variables(self) -> dict[str, keras.Variable]:
        """Returns the wrapper's own state; Keras also saves the wrapped optimizer."""
        named = {"iteration": self._iterations, **self._numbers}
        for name, slots in self._state.items():
            named.update({f"{name}:{i}": v for i, v in slots.items()})
        return named

    @override
    def _initial_value(self, name: str) -> Any:
        if name in self._numbers:
            return self._factory.initial_value(self._numbers[name])
        slot, _, index = name.rpartition(":")
        if not slot:
            return 0
        kept, variable = self._state[slot][int(index)], self._trainable_variables
        dtype = keras.backend.standardize_dtype(kept.dtype)
        return self.slots[slot].initial_value(
            variable[int(index)], tuple(kept.shape), dtype
        )

    @property
    @override
    def _owner(self) -> str:
        """The classes whose state it is, such as `"Lookahead(Adam)"`."""
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
    @override
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Wrapper:
        """Makes a wrapper from what `get_config` returned; see Keras."""
        optimizer = keras.saving.deserialize_keras_object(
            config["optimizer"], custom_objects=custom_objects
        )
        return cls(**{**config, "optimizer": optimizer})

    # One call of `apply`.

    @override
    def apply(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None
    ) -> None:
        """Updates the variables; see `keras.optimizers.Optimizer.apply`."""
        grads = [in_our_form(gradient) for gradient in grads]
        if not grads:
            return
        if trainable_variables is None:
            trainable_variables = self._trainable_variables
        variables = list(trainable_variables)
        check_count(grads, variables)
        if all(gradient is None for gradient in grads):
            raise ValueError(f"{type(self).__name__}: no variable has a gradient.")
        # Outside of the scope: names do not tell who built.
        self.build(variables)
        with keras.name_scope(self.name, caller=self):
            self._check_variables_are_known(variables)
            pairs = zip(grads, variables, strict=True)
            grads = [self._given(gradient, variable) for gradient, variable in pairs]
            if self._replicated:
                self._advance_replicas(grads, variables)
            else:
                apply = partial(self.optimizer.apply, grads, variables)
                self._advance_one(grads, variables, apply)

    def _advance_one(
        self, grads: list[Any], variables: list[Any], apply: Callable[[], None]
    ) -> None:
        if any(slot.initial == PARAMETER for slot in self.slots.values()):
            self._branch(ops.equal(self._iterations, 0), self._copy_again)
        self._advance(grads, variables, apply)
        self._iterations.assign_add(1)

    def _advance(
        self, grads: list[Any], variables: list[Any], apply: Callable[[], None]
    ) -> None:
        """Makes one call of `apply`.

        Args:
            grads: The gradients, or `None`, of the variables.
            variables: The variables of the model.
            apply: Calls `apply` of the wrapped optimizer with them.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define `_advance(grads, variables, apply)`."
        )

    @property
    def _replicated(self) -> bool:
        return ON_TENSORFLOW and self._distribution_strategy.num_replicas_in_sync > 1

    def _advance_replicas(self, grads: list[Any], variables: list[Any]) -> None:
        """Advances all replicas of `tf.distribute` at once, by their summed gradients.

        The wrapped optimizer is called in each replica, with the gradients of each.
        """
        whole = [dense(g, v) for g, v in zip(grads, variables, strict=True)]
        pairs = zip(whole, variables, strict=True)
        sums = [gradient for gradient, _ in self._all_reduce_sum_gradients(pairs)]

        call_together(
            lambda grads: self.optimizer.apply(grads, variables),
            lambda sums, apply: self._advance_one(sums, variables, apply),
            grads,
            sums,
        )

    def _copy_again(self) -> None:
        for name, slot in self.slots.items():
            if slot.initial == PARAMETER:
                for i, kept in self._state[name].items():
                    write(kept, self._trainable_variables[i])

    def _branch(
        self,
        predicate: Any,
        if_true: Callable[[], None],
        if_false: Callable[[], None] = nothing,
        changed: list[keras.Variable] | None = None,
    ) -> None:
        """Calls `branch`; by default it does not change the wrapped optimizer."""
        branch(
            predicate,
            if_true,
            if_false,
            variables=self._trainable_variables + self.variables,
            changed=changed or self._trainable_variables + super().variables,
        )

    def _with_gradient(self, grads: list[Any], variables: list[Any]) -> set[int]:
        """Returns the indices of the variables that have a gradient in this call."""
        pairs = zip(grads, variables, strict=True)
        return {self._get_variable_index(v) for g, v in pairs if g is not None}

    def _given(self, gradient: Any, variable: Any) -> Any:
        """Returns a gradient as the wrapped optimizer gets it."""
        return gradient
