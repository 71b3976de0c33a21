"""Checks the files of the installed package, and trains a small model with it."""

import importlib.util
from importlib import metadata
from pathlib import Path

import keras
import numpy as np

import keras_adaptive

version = keras_adaptive.__version__
files = {str(file) for file in metadata.files("keras-adaptive")}
information = f"keras_adaptive-{version}.dist-info"
folders = {name.partition("/")[0] for name in files}
assert folders == {"..", "keras_adaptive", information}, folders
assert f"{information}/licenses/LICENSE" in files
assert "keras_adaptive/py.typed" in files
assert "keras_adaptive/experiments/convergence.py" in files
assert "site-packages" in Path(keras_adaptive.__file__).parts
assert importlib.util.find_spec("experiments") is None

x = np.random.default_rng(0).normal(size=(64, 4))
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
model.compile(keras_adaptive.optimizers.Adam(0.1), loss="mse")
loss = model.fit(x, x.sum(axis=1), epochs=20, verbose=0).history["loss"]
assert loss[-1] < 0.1 * loss[0], loss
print(f"keras_adaptive {version}: complete, and trains with Adam")
