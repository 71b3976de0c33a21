import shutil

import keras
import mlflow
import numpy as np
import pytest
from scipy import sparse

from keras_adaptive.datasets.dataset import Dataset, Split
from keras_adaptive.study import Contender, Epochs, Workload
from keras_adaptive.study.execution.training import seeded, train
from keras_adaptive.study.execution.trial import Trial
from keras_adaptive.study.ledger.mlflow_ledger import quiet_mlflow


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


@pytest.fixture(scope="session")
def dense(tiny):
    """The same rows as plain arrays."""
    parts = (Split(split.x.toarray(), split.y) for split in tiny.parts.values())
    return Dataset("dense", "made for tests", *parts, classes=tiny.classes)


def small_model(seed, sparse=True):
    words = keras.Input(shape=(40,), sparse=sparse)
    glorot = keras.initializers.GlorotUniform(seed=seed)
    return keras.Model(words, keras.layers.Dense(2, kernel_initializer=glorot)(words))


@pytest.fixture(scope="session")
def build_model():
    return small_model


@pytest.fixture
def workload(tiny):
    return Workload(
        "tiny",
        small_model,
        tiny,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch_size=16,
        budget=Epochs(3),
    )


def sgd(rate, label="keras/sgd"):
    return Contender("keras/sgd", [rate], label=label)


@pytest.fixture(scope="session")
def make_sgd():
    return sgd


@pytest.fixture(scope="session")
def trial_of():
    """Makes a trial of a fixed contender."""

    def make(workload, contender, seed=0, key="k", budget=None):
        setting = contender.grid(1)[0]
        budget = budget or workload.budget
        params = {"data": "tiny", "data_digest": "d", "data_source": "made for tests"}
        return Trial(key, workload, budget, contender, setting, "compare", seed, params)

    return make


@pytest.fixture(scope="session")
def run_trial(trial_of):
    """Trains a fixed contender on a workload, with all its data."""

    def run(workload, contender, seed=0, **options):
        with seeded(seed):
            return train(trial_of(workload, contender, seed, **options), workload.data)

    return run


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """MLflow's database before the first run: making one takes seconds."""
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    with quiet_mlflow():
        mlflow.MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def store(tmp_path, monkeypatch, empty_store):
    """A folder with a fresh MLflow store, and a client for it."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with quiet_mlflow():
        yield tmp_path, mlflow.MlflowClient()
    assert mlflow.active_run() is None
