"""Exchanges Keras's layers in a model for ours."""

from __future__ import annotations

from typing import Any

import keras

from keras_adaptive.layers.embedding import Embedding
from keras_adaptive.layers.sparse_dense import SparseDense


def exchange(model: keras.Model) -> keras.Model:
    """Returns a model with our layers in the place of Keras's, and the same weights.

    `keras.layers.Embedding` becomes `layers.Embedding`, and `keras.layers.Dense` on a
    sparse input `layers.SparseDense`. Subclasses of the two stay. The model given is
    not changed; the new one has copies of its weights, and is not compiled.

    Args:
        model: A `Sequential` or functional model, built, of any depth.

    Raises:
        ValueError: The model is neither, is not built, or has no layer to exchange.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential(
    ...     [keras.Input((8,), dtype="int32"), keras.layers.Embedding(1000, 16)]
    ... )
    >>> type(keras_adaptive.layers.exchange(model).layers[0]).__module__
    'keras_adaptive.layers.embedding'
    """
    exchanged = []

    def ours(layer: keras.layers.Layer) -> keras.layers.Layer:
        cls = _ours(layer)
        exchanged.append(cls is not type(layer))
        same: keras.layers.Layer = cls.from_config(layer.get_config())
        return same

    kind = type(model).__name__
    if not _can_be_rebuilt(model):
        raise ValueError(
            f"Only Sequential and functional models can be rebuilt. Received: {kind}. "
            "In a model of your own class, use the layers of "
            "`keras_adaptive.layers` where it makes its layers."
        )
    if not model.built:
        raise ValueError(
            f"The {kind} model has no weights yet. Build it first: give it an `Input`, "
            "or call it on a batch."
        )
    copy = keras.models.clone_model(model, clone_function=ours, recursive=True)
    if not any(exchanged):
        raise ValueError(
            f"The {kind} model has no `keras.layers.Embedding`, and no "
            "`keras.layers.Dense` on a sparse input."
        )
    copy.set_weights(model.get_weights())
    return copy


def _can_be_rebuilt(model: keras.Model) -> bool:
    # Keras does not export the class of functional models.
    by_keras = type(model).__module__.startswith("keras.")
    return by_keras and type(model).__name__ in ("Sequential", "Functional")


def _ours(layer: keras.layers.Layer) -> Any:
    """Returns the class that a layer is to have."""
    if type(layer) is keras.layers.Embedding:
        return Embedding
    if type(layer) is keras.layers.Dense and _has_sparse_input(layer):
        return SparseDense
    return type(layer)


def _has_sparse_input(layer: keras.layers.Layer) -> bool:
    try:
        return bool(getattr(layer.input, "sparse", False))
    except (AttributeError, ValueError):
        return False  # it is called in several places, or in none
