"""The digest of the package's own sources, which is part of every run's key."""

import shutil
from pathlib import Path

import pytest

import keras_adaptive
from keras_adaptive.study.ledger.fingerprint import source_digest

PACKAGE = Path(keras_adaptive.__file__).parent


@pytest.fixture
def copied(tmp_path):
    """A copy of the package, in which a rule lies in a subfolder of its own."""
    package = tmp_path / "keras_adaptive"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    assert source_digest(package) == source_digest(PACKAGE)
    rule = next(package.rglob("lion.py"))
    folder = rule.parent / "moved" / "deeper"
    folder.mkdir(parents=True)
    return package, rule.rename(folder / rule.name)


def test_a_rule_counts_wherever_it_lies(copied):
    package, rule = copied
    before = source_digest(package)
    rule.write_text(rule.read_text("utf-8").replace("ops.sign(mixed)", "mixed"))
    assert source_digest(package) != before


@pytest.mark.parametrize(
    "name",
    ["csr_products.py", "evaluate_averaged.py", "sparse_dense.py", "training.py"],
)
def test_whatever_trains_counts(copied, name):
    package, _ = copied
    before = source_digest(package)
    file = next(package.rglob(name))
    file.write_text(file.read_text("utf-8") + "\n")
    assert source_digest(package) != before


def test_a_file_s_place_alone_does_not_count(copied):
    package, _ = copied
    assert source_digest(package) == source_digest(PACKAGE)


@pytest.mark.parametrize("name", ["cli.py", "html_report.py", "medians.py"])
def test_what_only_shows_runs_does_not_count(copied, name):
    package, _ = copied
    file = next(package.rglob(name))
    file.write_text(file.read_text("utf-8") + "\n")
    assert source_digest(package) == source_digest(PACKAGE)
