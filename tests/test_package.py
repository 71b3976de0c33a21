"""The package as a whole: metadata, what it ships, what importing it costs."""

import os
import subprocess
import sys
from importlib import metadata, resources

import pytest

import keras_adaptive

IMPORTED_BESIDE_KERAS = """
import sys
import keras
before = set(sys.modules)
import keras_adaptive
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*new - sys.stdlib_module_names)
"""


def run_python(code, backend="tensorflow"):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()


def test_version_is_the_distribution_s():
    assert keras_adaptive.__version__ == metadata.version("keras-adaptive")


def test_base_dependencies_are_keras_and_numpy():
    base = [
        requirement
        for requirement in metadata.requires("keras-adaptive")
        if "extra ==" not in requirement
    ]
    assert sorted(base) == ["keras>=3.10", "numpy"]


def test_is_typed():
    assert resources.files("keras_adaptive").joinpath("py.typed").is_file()


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_import_needs_keras_alone(backend):
    assert run_python(IMPORTED_BESIDE_KERAS, backend) == ["keras_adaptive"]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_import_leaves_tensorflow_out(backend):
    code = "import sys, keras_adaptive; print('tensorflow' in sys.modules)"
    assert run_python(code, backend) == ["False"]
