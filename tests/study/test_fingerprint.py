"""The digest of the package's own sources, which is part of every run's key."""

import importlib.metadata
import shutil
from pathlib import Path

import pytest

import keras_adaptive
from keras_adaptive.study.ledger import fingerprint
from keras_adaptive.study.ledger.fingerprint import source_digest
from keras_adaptive.study.ledger.reach.origins import version_of

ONLY_SHOWS = (
    *("cli.py", "html_report.py", "medians.py"),
    *("publish.py", "renamed.py", "spool.py"),
)
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


@pytest.mark.parametrize(
    "name",
    ["cli.py", "html_report.py", "medians.py", "publish.py", "renamed.py", "spool.py"],
)
def test_what_only_shows_runs_does_not_count(copied, name):
    package, _ = copied
    file = next(package.rglob(name))
    file.write_text(file.read_text("utf-8") + "\n")
    assert source_digest(package) == source_digest(PACKAGE)


@pytest.mark.parametrize(
    ("module", "by_content"),
    [
        ("experiments.gallery", True),
        ("keras_adaptive.experiments.gallery", True),
        ("keras_adaptive.study.reporting.tables", True),
        ("keras_adaptive.optimizers.catalogue.adam", False),
        ("keras_adaptive.experimental", False),
        ("keras.src.layers", False),
        ("keras_adaptive_extras.layers", True),
    ],
)
def test_what_no_version_covers_counts_by_its_content(module, by_content):
    assert (version_of(module) is None) == by_content


def test_a_package_that_is_not_installed_has_a_version_too(monkeypatch):
    def not_installed(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", not_installed)
    fingerprint.installed_software.cache_clear()
    versions = fingerprint.installed_software()
    fingerprint.installed_software.cache_clear()
    (name,) = versions
    assert name == "keras-adaptive"
    assert versions[name].startswith(f"{keras_adaptive.__version__}+")
