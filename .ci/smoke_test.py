"""Trains a small model with the installed package, and with nothing but that."""

import importlib.util
from pathlib import Path

import keras
import numpy as np

import keras_adaptive

assert "site-packages" in Path(keras_adaptive.__file__).parts
assert importlib.util.find_spec("experiments") is None

x = np.random.default_rng(0).normal(size=(64, 4))
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
model.compile(keras_adaptive.optimizers.Adam(0.1), loss="mse")
loss = model.fit(x, x.sum(axis=1), epochs=20, verbose=0).history["loss"]
assert loss[-1] < 0.1 * loss[0], loss
print(f"keras_adaptive {keras_adaptive.__version__} trains with Adam")
