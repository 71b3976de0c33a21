"""The state of a wrapper together with that of what it wraps."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from keras_adaptive.optimizers.contract.override import override
from keras_adaptive.optimizers.engine.checkpoint import (
    SavedByName,
    ShapesDiffer,
    set_variables,
)
from keras_adaptive.optimizers.wrappers.delegation import DelegatingOptimizer


class SavesWhatItWraps(SavedByName, DelegatingOptimizer):
    """Copies, puts back and resets the state of a wrapper and of what it wraps."""

    def _set_listed(self, values: list[Any]) -> None:
        own = super().variables
        set_variables(self._owner, own, values[: len(own)])
        self.optimizer.set_weights(values[len(own) :])

    @override
    def get_state(self) -> dict[str, np.ndarray]:
        """Returns a copy of the state, that of the wrapped optimizer included."""
        state = super().get_state()
        for prefix, part in self._parts_by_prefix().items():
            state |= {f"{prefix}{n}": v for n, v in state_of(part).items()}
        return state

    @override
    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Puts back what `get_state` returned; see there."""
        own = {n: v for n, v in state.items() if "/" not in n}
        loads = [partial(super().set_state, own)]
        for prefix, part in self._parts_by_prefix().items():
            inner = {n: v for n, v in state.items() if n.startswith(prefix)}
            inner = {n.removeprefix(prefix): v for n, v in inner.items()}
            loads.append(partial(part.load_own_variables, inner))
        errors = []
        for load in loads:
            try:
                load()
            except ShapesDiffer as error:
                errors.append(str(error))
        if errors:
            raise ShapesDiffer("\n".join(errors))

    @override
    def reset_state(self) -> None:
        """Starts the state anew, that of the wrapped optimizer included."""
        super().reset_state()
        for part in self._parts():
            if isinstance(part, SavedByName):
                part.reset_state()
            elif part.built:
                reset_by_rebuilding(part)

    def _parts_by_prefix(self) -> dict[str, Any]:
        """Returns the wrapped optimizers by the beginning of names in `get_state`."""
        return {f"optimizer_{i}/": part for i, part in enumerate(self._parts())}


def state_of(optimizer: Any) -> dict[str, np.ndarray]:
    """Returns a copy of the state of any optimizer, ours or Keras's own."""
    store: dict[str, np.ndarray] = {}
    if optimizer.built:
        optimizer.save_own_variables(store)
    return {name: np.array(value) for name, value in store.items()}


def reset_by_rebuilding(optimizer: Any) -> None:
    """Starts the state of one of Keras's own optimizers anew, but its learning rate.

    Args:
        optimizer: The optimizer, which is built.
    """
    fresh = type(optimizer).from_config(optimizer.get_config())
    fresh.build(optimizer._trainable_variables)
    for variable, initial in zip(optimizer.variables, fresh.variables, strict=True):
        if variable is not optimizer._learning_rate:
            variable.assign(initial)
