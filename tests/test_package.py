"""The package as a whole: metadata, what it ships, what importing it costs."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata, resources
from pathlib import Path

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


ROOT = Path(__file__).parents[1]
BUILD_FILES = ("pyproject.toml", "setup.cfg", "setup.py")
BUILD = """
from setuptools import build_meta
print(build_meta.build_sdist("dist"))
print(build_meta.build_wheel("dist"))
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


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_import_needs_keras_alone(backend):
    assert run_python(IMPORTED_BESIDE_KERAS, backend) == ["keras_adaptive"]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_import_leaves_tensorflow_out(backend):
    code = "import sys, keras_adaptive; print('tensorflow' in sys.modules)"
    assert run_python(code, backend) == ["False"]


def in_repository():
    """The source files of the package, by the place where they are installed."""
    places = {"keras_adaptive": ROOT / "keras_adaptive"}
    places["keras_adaptive/experiments"] = ROOT / "experiments"
    return {
        f"{place}/{file.relative_to(folder).as_posix()}"
        for place, folder in places.items()
        for file in folder.rglob("*.py")
    }


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The names of the files in the wheel and in the source distribution."""
    copy = tmp_path_factory.mktemp("clone")
    for name in ("keras_adaptive", "experiments", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "golden")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("MANIFEST.in", "README.md", "LICENSE", *BUILD_FILES):
        shutil.copy(ROOT / name, copy / name)
    subprocess.run(
        [sys.executable, "-c", BUILD], cwd=copy, check=True, capture_output=True
    )
    (wheel,) = copy.glob("dist/*.whl")
    (sources,) = copy.glob("dist/*.tar.gz")
    with zipfile.ZipFile(wheel) as archive, tarfile.open(sources) as tar:
        return archive.namelist(), [
            member.name.partition("/")[2] for member in tar if member.isfile()
        ]


def test_wheel_has_every_source_file_and_the_marker_of_types(built):
    wheel, _ = built
    assert {name for name in wheel if name.endswith(".py")} == in_repository()
    assert "keras_adaptive/py.typed" in wheel


def test_wheel_puts_one_package_on_the_import_path(built):
    wheel, _ = built
    tops = {name.partition("/")[0] for name in wheel}
    assert tops == {
        "keras_adaptive",
        f"keras_adaptive-{keras_adaptive.__version__}.dist-info",
    }


def test_source_distribution_has_the_experiments_and_no_tests(built):
    _, sources = built
    experiments = {file.name for file in (ROOT / "experiments").glob("*.py")}
    assert {f"experiments/{name}" for name in experiments} <= set(sources)
    assert "keras_adaptive/py.typed" in sources
    assert not [name for name in sources if name.startswith("tests/")]
