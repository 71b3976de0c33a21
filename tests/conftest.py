import os
from pathlib import Path

import keras
import pytest


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
    if keras.backend.backend() == "tensorflow":
        from keras_adaptive.optimizers.engine.tensorflow import row_updates as sparse

        monkeypatch.setattr(sparse, "SMALL_TABLE", 0)
        monkeypatch.setattr(sparse, "ROWS_PER_ID", 0)
