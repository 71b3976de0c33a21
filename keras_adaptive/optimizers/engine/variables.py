"""Variables that an optimizer adds, beside those of the model."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.contract.slot import Slot
from keras_adaptive.optimizers.engine.backend import compute_dtype, outside_of_graphs
from keras_adaptive.optimizers.engine.identity import path_of


class VariableFactory:
    """Adds variables to an optimizer.

    Args:
        add_variable: The optimizer's method.
        beside: Returns the scope in which a variable lands on the devices of another.
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

    def slot(
        self,
        variable: Any,
        name: str,
        slot: Slot,
        values: Callable[[], Any] | None = None,
    ) -> keras.Variable:
        """Adds a slot of a variable.

        Args:
            variable: The variable of the model.
            name: The name of the slot.
            slot: The slot.
            values: Returns what a slot that starts as a copy is copied from; by
                default the variable.
        """
        # XLA does not compile what makes a variable from the value of another.
        with outside_of_graphs():
            source = variable if values is None else values()
            return self.like(
                variable,
                name,
                slot.shape(tuple(variable.shape)),
                compute_dtype(variable),
                lambda shape, dtype: slot.initial_value(source, shape, dtype),
            )

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
        wanted = unique = f"{re.sub('[/:]', '_', path_of(variable))}_{name}"
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
        dtype = keras.backend.standardize_dtype(number.dtype)
        return initializer(tuple(number.shape), dtype)
