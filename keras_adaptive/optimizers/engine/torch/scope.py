"""Whether Keras writes variables at once."""

from __future__ import annotations

import keras


def within_scope() -> bool:
    """Returns whether a `keras.StatelessScope` keeps what is written."""
    with keras.StatelessScope(initialize_variables=False) as probe:
        return probe.original_scope is not None
