"""Trained models compared: their weights, and training after a file."""

import keras
import numpy as np
from keras import ops


def weights(model):
    return [np.array(ops.convert_to_numpy(v), "float64") for v in model.weights]


def distance(got, want):
    """The largest difference in any variable, relative to its largest entry."""
    return max(
        np.abs(a - b).max() / np.abs(b).max() for a, b in zip(got, want, strict=True)
    )


def resumed_bit_by_bit(model, train, path):
    """Trains a model and one that is loaded in the middle; returns the second.

    Args:
        model: The model.
        train: Trains a model with some batches, by number.
        path: The file in the middle.
    """
    train(model, range(6))
    model.save(path)
    train(model, range(6, 12))
    again = keras.saving.load_model(path)
    train(again, range(6, 12))
    for got, want in zip(weights(again), weights(model), strict=True):
        np.testing.assert_array_equal(got, want)
    return again
