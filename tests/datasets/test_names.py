"""The names that `keras_adaptive.datasets` exports, and what they need."""

import os
import subprocess
import sys

import pytest

from keras_adaptive import datasets

FIT_WITHOUT_EXTRAS = """
import sys
for library in ("scipy", "sklearn", "pandas", "mlflow", "matplotlib"):
    sys.modules[library] = None
import keras, numpy as np
from keras_adaptive.datasets import Split, training_batches

rows = Split(np.eye(8, dtype="float32"), np.arange(8) % 2)
dense = keras.layers.Dense(1)
model = keras.Sequential([keras.Input((8,)), dense])
model.compile("sgd", "mse")
batches = training_batches(rows, batch_size=4, seed=0)
model.fit(batches, epochs=2, steps_per_epoch=2, shuffle=False, verbose=0)
print("fitted")
"""


@pytest.mark.parametrize("name", datasets.__all__)
def test_every_name_is_there(name):
    assert getattr(datasets, name).__name__ == name


def test_unknown_names():
    with pytest.raises(AttributeError, match="no attribute 'load_irsi'"):
        _ = datasets.load_irsi


def test_batches_need_keras_and_tensorflow_alone():
    done = subprocess.run(
        [sys.executable, "-c", FIT_WITHOUT_EXTRAS],
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["fitted"]
