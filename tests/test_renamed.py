"""Old names still work, and say the new ones."""

import ast
import importlib
import inspect
import sys

import pytest

import keras_adaptive.study
from keras_adaptive.renamed import moved_modules, renamed_argument
from keras_adaptive.study import Contender

STUDY = "keras_adaptive.study"


@pytest.fixture
def forgotten(monkeypatch):
    """As if no module had been imported by its old name."""
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{STUDY}.") and "__getattr__" in vars(module):
            monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("batches", "datasets.batches", "training_batches"),
        ("datasets.bundled", "datasets.bundled", "load_wine"),
        ("datasets.dataset", "datasets.dataset", "Split"),
        ("datasets.rare", "datasets.rare", "rare_rows"),
        ("datasets.tables", "datasets.frames", "load_frame"),
        ("defaults", "study.design.defaults", "default_loss"),
        ("models", "study.design.default_models", "default_model"),
        ("promises", "study.analysis.promises", "convergence"),
        ("robustness", "study.analysis.robustness", "robustness"),
    ],
)
def test_modules_that_moved(forgotten, old, new, name):
    moved = importlib.import_module(f"keras_adaptive.{new}")
    with pytest.warns(DeprecationWarning, match=f"from keras_adaptive.{new}") as said:
        module = importlib.import_module(f"{STUDY}.{old}")
    assert getattr(module, name) is getattr(moved, name)
    assert len(said) == old.count(".") + 1
    with pytest.raises(AttributeError):
        _ = module.no_such_name


def test_the_warning_points_to_the_import(forgotten):
    with pytest.warns(DeprecationWarning) as said:
        from keras_adaptive.study.models import default_model  # noqa: F401
    assert said[0].filename == __file__


def test_other_modules_are_not_found(forgotten):
    with pytest.raises(ModuleNotFoundError, match="study.no_such_module"):
        importlib.import_module(f"{STUDY}.no_such_module")


def test_a_place_that_does_not_exist(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    moved_modules({"keras_adaptive.old": "keras_adaptive.nowhere"})
    with (
        pytest.warns(DeprecationWarning),
        pytest.raises(ModuleNotFoundError, match="keras_adaptive.nowhere"),
    ):
        importlib.import_module("keras_adaptive.old")


def test_an_argument_and_its_attribute():
    grid = ("epsilon", (1e-8, 1e-4))
    with pytest.warns(DeprecationWarning, match="use 'extra_hyperparameter'") as said:
        contender = Contender("adam", second=grid)
    assert said[0].filename == __file__
    assert contender == Contender("adam", extra_hyperparameter=grid)
    with pytest.warns(DeprecationWarning, match="use 'extra_hyperparameter'"):
        assert contender.second == grid
    assert "second" not in inspect.signature(Contender).parameters


def test_an_argument_by_both_names():
    @renamed_argument("old", "new")
    class Thing:
        def __init__(self, new):
            self.new = new

    assert Thing(3).new == 3
    with (
        pytest.warns(DeprecationWarning),
        pytest.raises(TypeError, match="'old' and 'new'"),
    ):
        Thing(new=3, old=4)


def test_type_checkers_see_the_names_that_are_imported_when_used():
    tree = ast.parse(inspect.getsource(keras_adaptive.study))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: f"{node.module}"
        for node in block.body
        for alias in node.names
        if alias.asname == alias.name
    }
    places = vars(keras_adaptive.study)["_PLACES"]
    assert seen == {name: f"keras_adaptive.{each}" for name, each in places.items()}
    for name in keras_adaptive.study.__all__:
        assert callable(getattr(keras_adaptive.study, name))
