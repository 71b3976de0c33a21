"""A small default model for each kind of data.

Use one as it is for a first look at your own data, or copy it and change it. The seed
decides all initial weights. The outputs are not activated: a classifier gives logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import keras
import numpy as np

from keras_adaptive.datasets.dataset import Dataset, is_category
from keras_adaptive.errors import InputError, needs_extra
from keras_adaptive.layers import SparseDense

with needs_extra("study"):
    from scipy import sparse

HIDDEN = 64
"""Units of a hidden layer."""

WIDTH = 8
"""Length of the embedding of a category."""

FILTERS = (16, 32)
"""Filters of the convolutions."""

BRIGHTEST = 255
"""Images of bytes are divided by it."""

Builder = Callable[[int], keras.Model]


def default_model(data: Dataset) -> Builder:
    """Returns a builder of a small model that fits a dataset.

    Args:
        data: The dataset. An array gets `dense_net`, images (arrays of rank 4) get
            `image_net`, a CSR matrix gets `sparse_net`, and a dictionary `table_net`.

    Returns:
        A function from a seed to an uncompiled model, for `Workload(build=...)`. It
        keeps only the sizes of the data, so it can be sent to another process.

    Raises:
        InputError: If there is no default model for this kind of data.

    Example:
        >>> from keras_adaptive.datasets.bundled import load_wine
        >>> build = default_model(load_wine())
        >>> build(0).output_shape
        (None, 3)
    """
    x = data.train.x
    outputs = len(data.classes) or int(np.prod(data.train.y.shape[1:], dtype=int))
    if isinstance(x, dict):
        inputs = [part.x for part in data.parts.values() if isinstance(part.x, dict)]
        if builder := _table_builder(inputs, outputs):
            return builder
    elif sparse.issparse(x):
        return partial(sparse_net, features=x.shape[1], outputs=outputs)
    elif x.ndim == 2:
        return partial(dense_net, features=x.shape[1], outputs=outputs)
    elif x.ndim == 4:
        return partial(
            image_net,
            shape=x.shape[1:],
            outputs=outputs,
            scale=1 / BRIGHTEST if x.dtype == np.uint8 else 1.0,
        )
    raise InputError(
        f"There is no default model for {data.describe()}. Write a function from a "
        "seed to an uncompiled keras.Model and give it as build."
    )


def _table_builder(
    parts: Sequence[Mapping[str, np.ndarray]], outputs: int
) -> Builder | None:
    """Returns a builder for named inputs, `None` if one has no default.

    Args:
        parts: The inputs of each part of the data.
        outputs: Outputs of the last layer.
    """
    columns = parts[0]
    categories = {
        name: max(int(each[name].max()) for each in parts) + 1
        for name, column in columns.items()
        if is_category(column)
    }
    shapes = {
        name: column.shape[1:]
        for name, column in columns.items()
        if name not in categories
    }
    if any(len(shape) != 1 for shape in shapes.values()):
        return None
    numbers = {name: shape[0] for name, shape in shapes.items()}
    return partial(table_net, categories=categories, numbers=numbers, outputs=outputs)


def seeds(seed: int) -> Iterator[int]:
    """Yields a different seed for each layer, all decided by the model's seed."""
    rng = np.random.default_rng(seed)
    while True:
        yield int(rng.integers(2**31))


def _dense(units: int, seed: int, activation: str | None = None) -> keras.layers.Dense:
    initializer = keras.initializers.GlorotUniform(seed=seed)
    return keras.layers.Dense(units, activation, kernel_initializer=initializer)


def dense_net(
    seed: int, features: int, outputs: int, hidden: tuple[int, ...] = (HIDDEN,)
) -> keras.Model:
    """Builds a perceptron with relu layers.

    Args:
        seed: Decides the initial weights.
        features: Numbers in a row.
        outputs: Outputs of the last layer.
        hidden: Units of each hidden layer; none for a linear model.
    """
    layer_seeds = seeds(seed)
    layers = [_dense(units, next(layer_seeds), "relu") for units in hidden]
    inputs = keras.Input((features,))
    return keras.Sequential([inputs, *layers, _dense(outputs, next(layer_seeds))])


def sparse_net(
    seed: int, features: int, outputs: int, hidden: int = HIDDEN
) -> keras.Model:
    """Builds a perceptron with one relu layer over a sparse input, on TensorFlow.

    Args:
        seed: Decides the initial weights.
        features: Columns of the CSR matrix.
        outputs: Outputs of the last layer.
        hidden: Units of the hidden layer.
    """
    layer_seeds = seeds(seed)
    words = keras.Input((features,), sparse=True)
    glorot = keras.initializers.GlorotUniform(seed=next(layer_seeds))
    x = SparseDense(hidden, activation="relu", kernel_initializer=glorot)(words)
    return keras.Model(words, _dense(outputs, next(layer_seeds))(x))


def table_net(
    seed: int,
    categories: Mapping[str, int],
    numbers: Mapping[str, int],
    outputs: int,
    width: int = WIDTH,
    hidden: int = HIDDEN,
) -> keras.Model:
    """Builds a perceptron over embedded categories and over numbers.

    Args:
        seed: Decides the initial weights.
        categories: The number of values of each category, by the name of its input.
        numbers: The length of each numeric input, by its name.
        outputs: Outputs of the last layer.
        width: Length of the embedding of a category.
        hidden: Units of the hidden layer.
    """
    layer_seeds = seeds(seed)
    inputs, parts = {}, []
    for name, values in categories.items():
        inputs[name] = keras.Input((), dtype="int32", name=name)
        vectors = keras.initializers.RandomUniform(-0.05, 0.05, next(layer_seeds))
        table = keras.layers.Embedding(values, width, vectors)
        parts.append(table(inputs[name]))
    for name, size in numbers.items():
        inputs[name] = keras.Input((size,), name=name)
        parts.append(inputs[name])
    x = keras.layers.Concatenate()(parts) if len(parts) > 1 else parts[0]
    x = _dense(hidden, next(layer_seeds), "relu")(x)
    return keras.Model(inputs, _dense(outputs, next(layer_seeds))(x))


def image_net(
    seed: int,
    shape: tuple[int, int, int],
    outputs: int,
    scale: float = 1.0,
    filters: tuple[int, ...] = FILTERS,
) -> keras.Model:
    """Builds a small convolutional network.

    Args:
        seed: Decides the initial weights.
        shape: Height, width and channels of an image.
        outputs: Outputs of the last layer.
        scale: Factor of the pixels.
        filters: Filters of each 3 × 3 convolution; the size halves after each.
    """
    layer_seeds = seeds(seed)
    model = keras.Sequential([keras.Input(shape), keras.layers.Rescaling(scale)])
    for count in filters:
        kernels = keras.initializers.GlorotUniform(seed=next(layer_seeds))
        model.add(
            keras.layers.Conv2D(
                count, 3, padding="same", activation="relu", kernel_initializer=kernels
            )
        )
        model.add(keras.layers.MaxPooling2D(padding="same"))
    model.add(keras.layers.Flatten())
    model.add(_dense(HIDDEN, next(layer_seeds), "relu"))
    model.add(_dense(outputs, next(layer_seeds)))
    return model
