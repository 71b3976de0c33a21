"""The tests of compiled runs and of clusters, in a process with Keras on JAX."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

QUICKLY_COMPILED = "--xla_backend_optimization_level=0"

TESTS = Path(__file__).parent / "compiled"


def test_compiled_runs(tmp_path):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not installed")
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "--numprocesses=0"),
            *("-p", "no:cacheprovider", TESTS),
        ],
        env={**os.environ, "KERAS_BACKEND": "jax", "XLA_FLAGS": QUICKLY_COMPILED},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
