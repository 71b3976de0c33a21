import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest

TENSORFLOW = [
    "test_adam_family_sparse.py",
    "test_bad_input.py",
    "test_catalogue_sparse.py",
    "test_classics_sparse.py",
    "test_contract.py",
    "test_deferred.py",
    "test_fused.py",
    "test_graph.py",
    "test_layers.py",
    "test_other_backends.py",
    "test_replicas.py",
    "test_resume.py",
    "test_rows.py",
    "test_sparse.py",
    "test_small_tables.py",
    "test_wrappers_sparse.py",
]
"""Only TensorFlow has sparse gradients; the rest runs on every backend."""

backend = keras.backend.backend()
collect_ignore = [] if backend == "tensorflow" else TENSORFLOW
if backend != "jax":
    collect_ignore.append("test_jax.py")


@pytest.fixture(autouse=True)
def by_row(monkeypatch):
    """Tables as small as those of the tests would otherwise be updated whole."""
    if backend == "tensorflow":
        from keras_adaptive.optimizers import sparse

        monkeypatch.setattr(sparse, "SMALL_TABLE", 0)
        monkeypatch.setattr(sparse, "ROWS_PER_ID", 0)
