import keras
import numpy as np
import pytest
from scipy import sparse

from keras_adaptive.study.datasets.dataset import Dataset, Split
from keras_adaptive.study.training import Contender


def rows(count, seed, features=40):
    """Rows whose class shows in which half of the features they use."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, count)
    x = sparse.lil_matrix((count, features), dtype=np.float32)
    for row, label in enumerate(y):
        half = features // 2
        x[row, label * half + rng.choice(half, 4, replace=False)] = 0.5
    return Split(x.tocsr(), y)


@pytest.fixture(scope="session")
def tiny():
    return Dataset(
        "tiny",
        "made for tests",
        rows(60, 0),
        rows(30, 1),
        rows(30, 2),
        classes=("a", "b"),
    )


def small_model(seed):
    words = keras.Input(shape=(40,), sparse=True)
    glorot = keras.initializers.GlorotUniform(seed=seed)
    return keras.Model(words, keras.layers.Dense(2, kernel_initializer=glorot)(words))


@pytest.fixture(scope="session")
def build_model():
    return small_model


def sgd(rate, library="keras"):
    return Contender("sgd", library, keras.optimizers.SGD, rate)


@pytest.fixture(scope="session")
def make_sgd():
    return sgd
