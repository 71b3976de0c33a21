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
    "test_stages.py",
    "test_wrappers_sparse.py",
]
"""Only TensorFlow has sparse gradients; the rest runs on every backend."""

backend = keras.backend.backend()
collect_ignore = [] if backend == "tensorflow" else TENSORFLOW
if backend != "jax":
    collect_ignore.append("test_jax.py")


@pytest.fixture(autouse=True)
def always_by_row(by_row):
    """What is under test is mostly the way by row; see `test_small_tables.py`."""
