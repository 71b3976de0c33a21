"""State that Keras's own optimizers saved, for the drop-in class of the same name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_adaptive.optimizers.contract.naming import name_of_slot
from keras_adaptive.optimizers.engine import identity
from keras_adaptive.optimizers.engine.checkpoint import VARIABLES, WAY_OUT


def check_writer(optimizer: Any, store: Any) -> None:
    """Checks that Keras's optimizer of the same name may have saved a state.

    Args:
        optimizer: Our optimizer.
        store: What was saved. Files of Keras say by which optimizer.

    Raises:
        ValueError: Another optimizer saved it, or Keras has none of this name.
    """
    owner, writer = type(optimizer).__name__, _writer(store)
    exists = hasattr(keras.optimizers, owner)
    if not exists or (writer and not _is_called(writer, owner)):
        raise ValueError(
            f"{owner} cannot load the state of Keras's optimizer "
            f"{repr(writer) if writer else 'of another class'}. {WAY_OUT}"
        )


def translated(
    optimizer: Any,
    saved: Mapping[str, np.ndarray],
    named: Mapping[str, keras.Variable],
) -> dict[str, np.ndarray]:
    """Returns the state of Keras's optimizer of the same name under our names.

    Keras saves the variables of an optimizer by position. An optimizer of Keras that
    is built for the same variables tells what stands where.

    Args:
        optimizer: Our optimizer, which is built.
        saved: What Keras's optimizer saved.
        named: Our variables by name.

    Raises:
        ValueError: Keras's optimizer keeps other state.
    """
    owner, variables = type(optimizer).__name__, list(optimizer._trainable_variables)
    theirs = _of_keras(optimizer)
    theirs.build(variables)
    names = [variable.name for variable in theirs.variables]
    expected = {_name_in_keras(name, variables): name for name in named}
    shapes = [tuple(variable.shape) for variable in theirs.variables]
    found = [saved[str(i)].shape for i in range(len(saved)) if str(i) in saved]
    only_ours = expected.keys() - set(names)
    if found != shapes or not set(names) <= set(expected) or only_ours - {"evaluating"}:
        raise ValueError(
            f"{owner} cannot load this state of Keras's {owner}: it must have been "
            "saved with the same options, for the same variables. Expected the shapes "
            f"{shapes} of {names}. Received: {found}. {WAY_OUT}"
        )
    state = {expected[name]: saved[str(i)] for i, name in enumerate(names)}
    # Keras's optimizers are at the training point whenever they save.
    state |= {name: np.array(0) for name in only_ours}
    return {VARIABLES: identity.encoded(identity.identities(variables)), **state}


def _writer(store: Any) -> str | None:
    """Returns the name of the optimizer that saved, as files of Keras have it."""
    group = getattr(store, "_h5_entry_group", None)
    name = getattr(group, "attrs", {}).get("name")
    return name.decode() if isinstance(name, bytes) else name


def _is_called(name: str, owner: str) -> bool:
    plain = re.sub(r"_\d+$", "", name).replace("_", "").lower()
    return plain == owner.lower()


def _of_keras(optimizer: Any) -> Any:
    """Returns Keras's optimizer of the same name with the same options."""
    cls = getattr(keras.optimizers, type(optimizer).__name__)
    arguments = inspect.signature(cls.__init__).parameters
    config = optimizer.get_config()
    return cls.from_config({n: v for n, v in config.items() if n in arguments})


def _name_in_keras(name: str, variables: list[Any]) -> str:
    slot, _, place = name.rpartition(":")
    if not slot:
        return name
    return name_of_slot(variables[int(place)], slot)
