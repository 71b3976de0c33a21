"""Optimizer state in files: by slot and variable, with the class that wrote it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_adaptive.optimizers.engine import identity
from keras_adaptive.optimizers.engine.backend import outside_of_graphs

ROW_STATE = "row_"
"""The beginning of the names under which the state of rows is saved."""

OWNER, VARIABLES = "optimizer", "variables"
"""The names under which the class and the identities of variables are saved."""

RATES = ("learning_rate", "fallback_learning_rate")
"""The state that is a hyper-parameter, too."""

WAY_OUT = (
    "To go on without it, load the weights before you compile the model, or pass "
    "`objects_to_skip=[model.optimizer]` to `load_weights` of a '.weights.h5' file, "
    "or `compile=False` to `load_model`."
)


class ShapesDiffer(ValueError):
    """Variables have another shape than in a state; the rest of it was loaded."""


class SavedByName:
    """Saves and loads the state of an optimizer by slot and variable.

    A class that takes part defines `_named_variables` and `_initial_value`, and calls
    `_load_what_waits` at the end of its `build`.
    """

    built: bool
    _trainable_variables: list[Any]
    _loaded_before_build: dict[str, np.ndarray] | None = None
    _set_before_build: list[np.ndarray] | None = None

    @property
    def _owner(self) -> str:
        """The name of the class whose state it is."""
        return type(self).__name__

    def _named_variables(self) -> dict[str, keras.Variable]:
        """Returns the variables that a state always has.

        Returns:
            The variables by name; the name of what belongs to a variable of the model
            ends in a colon and its place.
        """
        raise NotImplementedError

    def _initial_value(self, name: str) -> Any:
        """Returns what a variable of `_named_variables` starts at."""
        raise NotImplementedError

    def _variables_to_save(self) -> dict[str, keras.Variable]:
        """Returns what to save, if that is more than always has to be there."""
        return self._named_variables()

    def _load(self, state: Mapping[str, np.ndarray]) -> None:
        """Loads a state whose names and shapes are those of these variables."""
        named = self._named_variables()
        for name, value in state.items():
            named[name].assign(value)

    def _check_writer(self, store: Any) -> None:
        """Checks that a state without names may be one to translate.

        Raises:
            ValueError: It cannot.
        """
        raise ValueError(
            f"{self._owner} cannot load this state: it has no names, as the state of "
            f"Keras's own optimizers. {WAY_OUT}"
        )

    def _translated(self, saved: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the state that Keras's optimizer of the same name saved.

        Raises:
            ValueError: It cannot be told which value is which.
        """
        raise NotImplementedError

    def save_own_variables(self, store: Any) -> None:
        """Saves the state by slot and variable of the model.

        An optimizer that is not built has no state yet and saves nothing.

        Args:
            store: A mapping to write to.
        """
        if not self.built:
            return
        store[OWNER] = np.frombuffer(self._owner.encode(), np.uint8)
        store[VARIABLES] = identity.encoded(
            identity.identities(self._trainable_variables)
        )
        for name, variable in self._variables_to_save().items():
            store[name] = ops.convert_to_numpy(variable)

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` saved, or Keras's optimizer of this name.

        State is matched by the variable of the model, wherever it stands now. State
        that was not saved starts anew, and state of variables that are not trained
        here is left out; one warning lists both. An optimizer that is not built yet
        loads the state when it is, and keeps the learning rate that it has.

        Args:
            store: The mapping that was written to.

        Raises:
            ValueError: The state is another optimizer's, or not possible, or a
                variable has another shape. The rest has then been loaded, as
                `skip_mismatch=True` needs.
        """
        saved = {name: np.asarray(store[name]) for name in list(store.keys())}
        if not saved:
            return
        if OWNER not in saved:
            self._check_writer(store)
            if self.built:
                saved = self._translated(saved)
        else:
            writer = bytes(saved[OWNER]).decode(errors="replace")
            if writer != self._owner:
                raise ValueError(
                    f"{self._owner} cannot load the state of {writer}. Compile the "
                    f"model with {writer} to go on with it. {WAY_OUT}"
                )
        if not self.built:
            self._loaded_before_build = {
                name: value for name, value in saved.items() if name not in RATES
            }
            return
        changed = self._load_what_fits(saved)
        if changed:
            raise ShapesDiffer(
                f"{self._owner}: variables of the model have another shape than in "
                f"this state: {', '.join(changed)}. Everything else was loaded. Pass "
                "`skip_mismatch=True` to `load_weights` to start their state anew."
            )

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Sets `variables`, as `load_model` does with a whole model in HDF5.

        An optimizer that is not built yet sets them when it is: `load_model` builds it
        for no variables at all, which is no building.

        Args:
            weights: Arrays of the shapes of the variables, in their order.

        Raises:
            ValueError: Their number or shapes differ.
        """
        if self.built:
            self._set_listed(list(weights))
        else:
            self._set_before_build = [np.array(weight) for weight in weights]

    def _set_listed(self, values: list[Any]) -> None:
        """Sets `variables`."""
        raise NotImplementedError

    def _load_what_waits(self) -> None:
        """Loads a state that came before the optimizer was built."""
        values, self._set_before_build = self._set_before_build, None
        if values is not None:
            with outside_of_graphs():
                self._set_listed(values)
        saved, self._loaded_before_build = self._loaded_before_build, None
        if saved is None:
            return
        with outside_of_graphs():
            if OWNER not in saved:
                saved = self._translated(saved)
                saved = {n: v for n, v in saved.items() if n not in RATES}
            # With another shape the model itself was loaded with `skip_mismatch`.
            self._load_what_fits(saved, tolerated=True)

    def _load_what_fits(
        self, saved: Mapping[str, np.ndarray], tolerated: bool = False
    ) -> list[str]:
        """Loads what belongs to these variables, and starts the rest anew.

        Args:
            saved: A state as it was saved.
            tolerated: Whether another shape is something to warn about.

        Returns:
            The variables of the model with another shape, each with both.
        """
        named = self._named_variables()
        before = identity.decoded(saved[VARIABLES])
        now = identity.identities(self._trainable_variables)
        places = identity.match(before, now)
        state = {n: v for n, v in saved.items() if n not in (OWNER, VARIABLES)}
        check_possible(self._owner, state)
        # A key with an unknown place belongs to a variable that is not trained here.
        state = identity.renamed(state, places)
        changed = {
            f"{now[j].path}: {before[i].shape}, now {now[j].shape}": j
            for i, j in places.items()
            if before[i].shape != now[j].shape
        }
        left_out = [before[i].path for i in range(len(before)) if i not in places]
        for name in list(state):
            known = name in named or name.startswith(ROW_STATE)
            place = name.rpartition(":")[2]
            if place.isdigit() and int(place) in changed.values():
                del state[name]
            elif not known or not _same_shape(state[name], named.get(name)):
                left_out.append(_readable(name, now))
                del state[name]
        fresh = [name for name in named if name not in state and name not in RATES]
        for name in fresh:
            named[name].assign(self._initial_value(name))
        self._load(state)
        shapes = set(changed.values())
        listed = [
            _readable(name, now)
            for name in fresh
            if tolerated or int(name.rpartition(":")[2] or -1) not in shapes
        ]
        if listed or left_out:
            warnings.warn(
                f"{self._owner} loaded the state of the variables that are trained "
                f"here. New, and started anew: {', '.join(listed) or 'nothing'}. "
                f"Saved, and left out: {', '.join(left_out) or 'nothing'}.",
                stacklevel=4,
            )
        return list(changed)

    # By hand.

    def get_state(self) -> dict[str, np.ndarray]:
        """Returns a copy of the whole state, to keep it or to put it back.

        Returns:
            Arrays by name; an empty dictionary before the optimizer is built.
        """
        store: dict[str, np.ndarray] = {}
        self.save_own_variables(store)
        return {name: np.array(value) for name, value in store.items()}

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Puts back what `get_state` returned, with the learning rate.

        Args:
            state: The arrays by name.

        Raises:
            ValueError: As `load_own_variables`.
        """
        self.load_own_variables(state)

    def reset_state(self) -> None:
        """Starts the state anew, as of an optimizer built on the weights of now.

        The learning rate stays as it is. An optimizer that is not built yet forgets a
        state that it was about to load.
        """
        self._loaded_before_build = self._set_before_build = None
        if not self.built:
            return
        initial = {
            name: self._initial_value(name)
            for name in self._named_variables()
            if name not in RATES
        }
        self._load(initial)


def set_variables(owner: str, variables: Sequence[Any], values: list[Any]) -> None:
    """Sets variables to values.

    Raises:
        ValueError: Their number or shapes differ.
    """
    expected = [tuple(variable.shape) for variable in variables]
    received = [tuple(np.shape(value)) for value in values]
    if expected != received:
        raise ValueError(
            f"{owner} cannot take these weights. Expected arrays of the shapes "
            f"{expected}. Received: {received}."
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _readable(name: str, variables: list[identity.Identity]) -> str:
    """Returns a name in a state with the path of its variable."""
    slot, _, place = name.rpartition(":")
    if not slot or not place.isdigit() or int(place) >= len(variables):
        return name
    return f"{slot} of {variables[int(place)].path}"


def _same_shape(value: Any, variable: Any) -> bool:
    # The state of rows is made when it is loaded.
    return variable is None or tuple(np.shape(value)) == tuple(variable.shape)


def check_possible(owner: str, state: Mapping[str, np.ndarray]) -> None:
    """Checks that a state is one that training can have led to.

    Raises:
        ValueError: It is not.
    """
    for name, value in state.items():
        if value.dtype.kind not in "fiub" and value.dtype.name != "bfloat16":
            raise ValueError(
                f"{owner} cannot load '{name}': its dtype is {value.dtype}. Expected: "
                "real numbers."
            )
    calls = state.get(f"{ROW_STATE}calls", 0)
    counts = {
        name: value
        for name, value in state.items()
        if name.partition(":")[0]
        in ("iteration", *(ROW_STATE + n for n in ("calls", "clock", "queue_length")))
    }
    impossible = [
        name
        for name, value in counts.items()
        if np.any(value < 0)
        or (name.startswith(f"{ROW_STATE}clock") and np.any(value > calls))
    ]
    if impossible:
        raise ValueError(
            f"{owner} cannot load this state: {', '.join(impossible)} cannot be. A "
            "count of calls is never negative, and no row has seen more calls than "
            "there were. The file is damaged, or was changed."
        )


def check_up_to_date(row_state: Mapping[str, np.ndarray], mode: str) -> None:
    """Checks that no row is behind, where a part of the row state has no place.

    Args:
        row_state: The saved row state by name.
        mode: The mode of sparse updates.

    Raises:
        ValueError: Rows were not up to date.
    """
    now = row_state.get(f"{ROW_STATE}calls", 0)
    behind = [
        name
        for name, value in sorted(row_state.items())
        if (name.startswith("row_clock:") and np.any(value != now))
        or (name.startswith("row_queue_length:") and np.any(value))
    ]
    if behind:
        raise ValueError(
            "This state was saved on TensorFlow while rows of a sparse variable were "
            f"not up to date ({', '.join(behind)}), and such rows are not kept on the "
            f"{keras.backend.backend()} backend with sparse='{mode}' and these "
            "options. Load it with those that it was saved with, call "
            "`optimizer.flush()` between two updates, and save again."
        )
