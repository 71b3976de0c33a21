"""What all tests share: the backend that a test needs, and the real data."""

import os
import re
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest

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
        from keras_adaptive.optimizers.engine.tensorflow import row_updates as sparse

        monkeypatch.setattr(sparse, "SMALL_TABLE", 0)
        monkeypatch.setattr(sparse, "ROWS_PER_ID", 0)
