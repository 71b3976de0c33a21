"""An optimizer written as CONTRIBUTING.md says, to the letter."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
INIT = "keras_adaptive/optimizers/__init__.py"
CASES = "tests/optimizers/optimizer_cases.py"


def block(label: str, path: str) -> str:
    """The code of CONTRIBUTING.md that belongs to a file."""
    heading = re.escape(f"<!-- {label}: {path} -->\n```")
    found = re.search(rf"^{heading}\w+\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return found[1]


def insert(file: Path, line: str, *, above: str = "", below: str = "") -> None:
    """Writes new lines around a line that a file has once."""
    before, after = file.read_text(encoding="utf-8").split(f"\n{line}\n")
    file.write_text(f"{before}\n{above}{line}\n{below}{after}", encoding="utf-8")


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy of the repository, with the new optimizer in it."""
    copy = tmp_path_factory.mktemp("walk_through")
    nothing_built = shutil.ignore_patterns("__pycache__", "golden")
    for folder in ("docs", "keras_adaptive", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=nothing_built)
    for file in ("pyproject.toml", "setup.cfg"):
        shutil.copy(ROOT / file, copy)
    path = re.search("<!-- file: (.*) -->", PAGE)[1]
    (copy / path).write_text(block("file", path), encoding="utf-8")
    insert(copy / CASES, "CATALOGUE = (", below=block("row", CASES))
    exported = {"above": block("import", INIT), "below": block("name", INIT)}
    insert(copy / INIT, "__all__ = [", **exported)
    return copy


def python(repository, *command, backend="tensorflow"):
    run = subprocess.run(
        [sys.executable, *command],
        cwd=repository,
        env={
            **os.environ,
            "JAX_ENABLE_X64": "1",
            "KERAS_BACKEND": backend,
            "PYTHONPATH": str(repository),
        },
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_the_catalogue_lists_it(repository):
    page = repository / "docs" / "catalogue.md"
    assert "`Signum`" not in page.read_text(encoding="utf-8")
    python(repository, "docs/make_catalogue.py")
    assert "| `Signum` | 1 | deferred" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_it_passes_the_tests_of_the_table(repository, backend):
    options = ["-q", "--numprocesses=0", "-p", "no:cacheprovider", "-k", "signum"]
    pytest_ = ["-m", "pytest", *options, "tests/optimizers"]
    summary = python(repository, *pytest_, backend=backend).splitlines()[-1]
    assert int(re.match(r"(\d+) passed", summary)[1]) >= 15


def test_it_follows_the_style(repository):
    file = re.search("<!-- file: (.*) -->", PAGE)[1]
    python(repository, "-m", "ruff", "check", file)
    python(repository, "-m", "ruff", "format", "--check", file)
    python(repository, "-m", "mypy", "--follow-imports=silent", file)
