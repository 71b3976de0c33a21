"""Optimizer state in files: by name, with the name of its optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops


def write(store, owner: str, named: Mapping[str, keras.Variable]) -> None:
    """Writes variables by name into what `save_own_variables` is given."""
    store["optimizer"] = np.frombuffer(owner.encode(), np.uint8)
    for name, variable in named.items():
        store[name] = ops.convert_to_numpy(variable)


def read(store, owner: str) -> dict[str, np.ndarray]:
    """Reads what `write` wrote; nothing, if the optimizer had no state yet.

    Raises:
        ValueError: The state is another optimizer's.
    """
    saved = {name: np.asarray(store[name]) for name in list(store.keys())}
    if not saved:
        return {}
    if "optimizer" not in saved:
        raise ValueError(
            f"{owner} cannot load this optimizer state: it has no slot names "
            "(Keras's own optimizers save by position, and "
            "one's state would load silently into another). Load the model "
            "with `compile=False` and compile it anew."
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
