"""The backend-agnostic tests, on the backends that this process does not use."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

HERE = Path(__file__).parent
CATALOGUE = HERE / "test_catalogue.py"
PARTS = {
    "catalogue": [CATALOGUE],
    "others": [
        *(HERE, HERE.parent / "callbacks", HERE.parent / "layers"),
        f"--ignore={CATALOGUE}",
    ],
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_backend(backend, part):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    options = ["-q", "--numprocesses=0", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *PARTS[part]],
        env={**os.environ, "KERAS_BACKEND": backend, "JAX_ENABLE_X64": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
