"""What all tests share: the backend that a test needs, and the real data."""

import os
import re
import shutil
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Only the allocator of oneDNN counts bytes, and not every processor has it on.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    # There is a worker a core, and the threads of PyTorch wait by spinning.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import numpy as np
import pytest

from keras_adaptive.datasets import Dataset, Split

BACKEND = keras.backend.backend()
BACKENDS = ("tensorflow", "jax", "torch")
MARKED_MODULE = re.compile(
    rf"^pytestmark = .*\bpytest\.mark\.({'|'.join(BACKENDS)})\b", re.MULTILINE
)


def pytest_ignore_collect(collection_path):
    """Leaves out modules marked for another backend, without importing them."""
    if collection_path.suffix != ".py":
        return None
    mark = MARKED_MODULE.search(collection_path.read_text(encoding="utf-8"))
    return True if mark and mark[1] != BACKEND else None


def pytest_runtest_setup(item):
    """Skips tests marked for another backend."""
    needed = [backend for backend in BACKENDS if item.get_closest_marker(backend)]
    if needed and BACKEND not in needed:
        pytest.skip(f"needs Keras on {' or '.join(needed)}")


@pytest.fixture(scope="session")
def real_data():
    """The folder with the real datasets, or a skip where it is absent."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("KERAS_ADAPTIVE_TEST_DATA", beside))
    if not (folder / "SHA256SUMS").exists():
        pytest.skip(f"no real data in {folder}; set KERAS_ADAPTIVE_TEST_DATA")
    return folder


@pytest.fixture
def by_row(monkeypatch):
    """Tables as small as those of the tests would otherwise be updated whole."""
    if BACKEND == "tensorflow":
        from keras_adaptive.optimizers.engine.sparse import row_updates as sparse

        monkeypatch.setattr(sparse, "SMALL_TABLE", 0)
        monkeypatch.setattr(sparse, "ROWS_PER_ID", 0)


def rows(count, seed, features=40):
    """Rows whose class shows in which half of the features they use."""
    from scipy import sparse

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


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """MLflow's database before the first run: making one takes seconds."""
    import mlflow

    from keras_adaptive.study.ledger.connection import quiet_mlflow

    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    with quiet_mlflow():
        mlflow.MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def store(tmp_path, monkeypatch, empty_store):
    """A folder with a fresh MLflow store, and a client for it."""
    import mlflow

    from keras_adaptive.study.ledger.connection import quiet_mlflow

    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with quiet_mlflow():
        yield tmp_path, mlflow.MlflowClient()
    assert mlflow.active_run() is None
