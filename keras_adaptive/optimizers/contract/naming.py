"""The names of variables and of their slots."""

from __future__ import annotations

import re
from typing import Any


def path_of(variable: Any) -> str:
    """Returns the path of a variable of Keras or of the backend."""
    return str(getattr(variable, "path", variable.name))


def name_of_slot(variable: Any, slot: str) -> str:
    """Returns the name of a slot, such as "dense_kernel_momentum", as in Keras."""
    return f"{re.sub('[/:]', '_', path_of(variable))}_{slot}"
