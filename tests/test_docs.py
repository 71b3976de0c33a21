"""The examples of README.md, docs/ and the docstrings run as they stand."""

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keras_adaptive

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = [
    "keras_adaptive",
    *(
        module.name
        for module in pkgutil.walk_packages(
            keras_adaptive.__path__, prefix="keras_adaptive."
        )
    ),
]

# The examples have sparse gradients, which only TensorFlow makes.
pytestmark = pytest.mark.tensorflow


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page):
    """All ```python blocks of a page, in order, in one namespace."""
    text = page.read_text(encoding="utf-8")
    namespace = {"__name__": page.stem}
    for block in re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        lines_above = text.count("\n", 0, block.start(1))
        code = compile("\n" * lines_above + block[1], page, "exec")
        exec(code, namespace)


@pytest.mark.slow
def test_catalogue_is_that_of_the_classes():
    script = ROOT / "docs" / "make_catalogue.py"
    assert subprocess.run([sys.executable, script, "--check"]).returncode == 0


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0
