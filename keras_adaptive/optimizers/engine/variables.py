"""Variables that an optimizer adds, beside those of the model."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.contract.naming import name_of_slot
from keras_adaptive.optimizers.contract.slot import PARAMETER, Slot
from keras_adaptive.optimizers.engine.backend import (
    compute_dtype,
    dtype_name,
    have_values,
    outside_of_graphs,
)

Late = tuple[keras.Variable, Callable[[], Any], Sequence[Any]]
"""A slot, its initial value, and the variables that it is copied from."""


class VariableFactory:
    """Adds variables to an optimizer.

    Args:
        add_variable: The optimizer's method.
        beside: Returns the scope in which a variable lands on the devices of another.

    Attributes:
        late_slots: The slots that wait for the values of variables.
    """

    def __init__(
        self,
        add_variable: Callable[..., keras.Variable],
        beside: Callable[[Any], contextlib.AbstractContextManager[Any]],
    ) -> None:
        self._add_variable = add_variable
        self._beside = beside
        self._initializers: dict[int, Callable[..., Any]] = {}
        self._names: set[str] = set()
        self.late_slots: list[Late] = []

    def slot(
        self,
        variables: Sequence[Any],
        name: str,
        slot: Slot,
        values: Callable[[], Any] | None = None,
    ) -> keras.Variable:
        """Adds a slot of a variable.

        Args:
            variables: The variable of the model, or those that share the slot.
            name: The name of the slot.
            slot: The slot.
            values: Returns what a slot that starts as a copy is copied from; by
                default the only variable.
        """
        variable = variables[0]
        shape, dtype = slot.shape(tuple(variable.shape)), compute_dtype(variable)

        def initial(shape: tuple[int, ...], dtype: str) -> Any:
            source = variable if values is None else values()
            return slot.initial_value(source, shape, dtype)

        # XLA does not compile what makes a variable from the value of another.
        with outside_of_graphs():
            if slot.initial != PARAMETER or have_values(variables):
                return self.like(variable, name, shape, dtype, initial)
            kept = self.like(variable, name, shape, dtype, "zeros")
        self.late_slots.append((kept, lambda: initial(shape, dtype), variables))
        return kept

    def fill_late_slots(self, started: Any, replicated: bool) -> None:
        """Copies variables that had no values yet into the slots that start as copies.

        TensorFlow traces a call again once it has initialized the variables that the
        first trace made. Where it cannot, the copy becomes part of the call.

        Args:
            started: Bool scalar, whether there has been an update.
            replicated: Whether several replicas of `tf.distribute` train.
        """
        with outside_of_graphs():
            ready = all(have_values(variables) for _, _, variables in self.late_slots)
            if ready:
                for kept, initial, _ in self.late_slots:
                    kept.assign(initial())
                self.late_slots.clear()
                return
        for kept, initial, _ in () if replicated else self.late_slots:
            kept.assign(ops.where(started, ops.convert_to_tensor(kept), initial()))

    def forget_late_slots(self) -> None:
        """Leaves slots as they are; called once a saved state has filled them."""
        self.late_slots.clear()

    def like(
        self,
        variable: Any,
        name: str,
        shape: tuple[int, ...],
        dtype: str,
        initializer: Any,
    ) -> keras.Variable:
        """Adds a variable on the devices of another."""
        same_shape = shape == tuple(variable.shape)
        with self._beside(variable):
            return self._add_variable(
                shape=shape,
                initializer=initializer,
                dtype=dtype,
                layout=getattr(variable, "_layout", None) if same_shape else None,
                name=self.name(variable, name),
            )

    def name(self, variable: Any, name: str) -> str:
        """Returns the name of what belongs to a variable, such as "dense_kernel_slow".

        It is the name that Keras's optimizers give, and no other variable has it, as
        files in HDF5 and state trees need.

        Args:
            variable: The variable of the model.
            name: The name of the slot.
        """
        wanted = unique = name_of_slot(variable, name)
        for number in itertools.count(1):
            if unique not in self._names:
                break
            unique = f"{wanted}_{number}"
        self._names.add(unique)
        return unique

    def number(
        self,
        name: str,
        dtype: str,
        shape: tuple[int, ...] = (),
        initial: float | str = 0,
    ) -> keras.Variable:
        """Adds a variable that belongs to no variable of the model."""

        def initializer(shape: tuple[int, ...], dtype: str) -> Any:
            return ops.full(shape, initial, dtype)

        variable = self._add_variable(
            shape=shape,
            initializer=initializer,
            dtype=dtype,
            aggregation="only_first_replica",
            name=name,
        )
        self._initializers[id(variable)] = initializer
        return variable

    def initial_value(self, number: keras.Variable) -> Any:
        """Returns what a variable that `number` added starts at."""
        initializer = self._initializers[id(number)]
        dtype = dtype_name(number.dtype)
        return initializer(tuple(number.shape), dtype)
