"""Optimizer state in files: saved by name, with the class that wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_adaptive.optimizers.engine.backend import outside_of_graphs

ROW_STATE = "row_"
"""The beginning of the names under which the state of rows is saved."""


class SavedByName:
    """Saves and loads the state of an optimizer by name.

    A class that takes part defines `_named_variables`, and calls `_load_what_waits` at
    the end of its `build`.
    """

    built: bool
    _loaded_before_build: dict[str, np.ndarray] | None = None

    @property
    def _owner(self) -> str:
        """The name of the class whose state it is."""
        return type(self).__name__

    def _named_variables(self) -> dict[str, keras.Variable]:
        """Returns the variables that a saved state must have, by name."""
        raise NotImplementedError

    def _variables_to_save(self) -> dict[str, keras.Variable]:
        """Returns what to save, if that is more than always has to be there."""
        return self._named_variables()

    def _load(self, saved: dict[str, np.ndarray]) -> None:
        """Loads a state by name into the variables."""
        load(self._owner, saved, self._named_variables())

    def save_own_variables(self, store: Any) -> None:
        """Saves the state by slot name and position of the model variable.

        An optimizer that is not built has no state yet and saves nothing.

        Args:
            store: A mapping to write to.
        """
        if self.built:
            write(store, self._owner, self._variables_to_save())

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` saved.

        An optimizer that is not built yet loads it when it is.

        Args:
            store: The mapping that was written to.

        Raises:
            ValueError: The state is another optimizer's, or has other names or shapes
                than this one.
        """
        saved = read(store, self._owner)
        if saved and self.built:
            self._load(saved)
        elif saved:
            self._loaded_before_build = saved

    def _load_what_waits(self) -> None:
        """Loads a state that came before the optimizer was built."""
        if self._loaded_before_build is not None:
            with outside_of_graphs():
                self._load(self._loaded_before_build)
            self._loaded_before_build = None


def write(store: Any, owner: str, named: Mapping[str, keras.Variable]) -> None:
    """Writes variables by name into what `save_own_variables` is given."""
    store["optimizer"] = np.frombuffer(owner.encode(), np.uint8)
    for name, variable in named.items():
        store[name] = ops.convert_to_numpy(variable)


def read(store: Any, owner: str) -> dict[str, np.ndarray]:
    """Reads what `write` wrote; nothing, if the optimizer had no state yet.

    Raises:
        ValueError: The state is another optimizer's.
    """
    saved = {name: np.asarray(store[name]) for name in list(store.keys())}
    if not saved:
        return {}
    if "optimizer" not in saved:
        raise ValueError(
            f"{owner} cannot load this optimizer state: it has no slot names. "
            "(Keras's own optimizers save by position, and one's state would load "
            "silently into another.) Load the model with `compile=False` and compile "
            "it anew."
        )
    writer = bytes(saved.pop("optimizer")).decode()
    if writer != owner:
        raise ValueError(
            f"{owner} cannot load the state of {writer}. Compile the model with "
            f"{writer}, or load it with `compile=False`."
        )
    return saved


def check(owner: str, saved: Mapping[str, Any], named: Mapping[str, Any]) -> None:
    """Checks that a state has the names and shapes of these variables.

    Raises:
        ValueError: It has not.
    """
    if saved.keys() != named.keys():
        raise ValueError(
            f"{owner} cannot load this state. "
            f"Missing: {sorted(named.keys() - saved.keys()) or 'nothing'}; "
            f"not known: {sorted(saved.keys() - named.keys()) or 'nothing'}. "
            "The constructor arguments must be those of the optimizer that "
            "saved it, and it must be built on the same variables."
        )
    for name, value in saved.items():
        if value.shape != tuple(named[name].shape):
            raise ValueError(
                f"{owner} cannot load '{name}' of shape {value.shape} "
                f"into shape {tuple(named[name].shape)}."
            )


def load(owner: str, saved: Mapping[str, Any], named: Mapping[str, Any]) -> None:
    """Assigns a state by name, after a check.

    Raises:
        ValueError: The state has other names or shapes.
    """
    check(owner, saved, named)
    for name, value in saved.items():
        named[name].assign(value)


def check_up_to_date(
    row_state: Mapping[str, np.ndarray], now: Any, *, but: str
) -> None:
    """Checks that no row is behind, where an optimizer could not bring it up to date.

    Args:
        row_state: The saved row state by name.
        now: The saved number of calls.
        but: Why not, and where it can be done.

    Raises:
        ValueError: Rows were not up to date.
    """
    behind = [
        name
        for name, value in sorted(row_state.items())
        if (name.startswith("row_clock:") and np.any(value != now))
        or (name.startswith("row_queue_length:") and np.any(value))
    ]
    if behind:
        raise ValueError(
            "This state was saved on TensorFlow while rows of a sparse variable were "
            f"not up to date ({', '.join(behind)}), and {but}, call "
            "`optimizer.flush()` between two updates, and save again."
        )
