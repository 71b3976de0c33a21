"""The rules of the house that import-linter cannot state.

`lint-imports` checks who may import whom; its contracts are in pyproject.toml.
"""

import ast
import graphlib
from pathlib import Path

import grimp
import keras
import pytest

import keras_adaptive

PACKAGE = Path(keras_adaptive.__file__).parent
SOURCES = {
    str(file.relative_to(PACKAGE)): ast.parse(file.read_text(encoding="utf-8"))
    for file in sorted(PACKAGE.rglob("*.py"))
}
ENGINE = [name for name in SOURCES if name.startswith("optimizers/engine/")]
CONTRACT = [name for name in SOURCES if name.startswith("optimizers/contract/")]

LINES_OF_A_MODULE = 400
LINES_OF_THE_ADAPTER = 300
METHODS_OF_A_CLASS = 25

every_module = pytest.mark.parametrize("name", SOURCES)


def nodes(name: str, kind: type) -> list:
    return [node for node in ast.walk(SOURCES[name]) if isinstance(node, kind)]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def last_name(expression: ast.expr) -> str:
    """The name that an expression ends with: `optimizer` in `self.optimizer`."""
    match expression:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


@every_module
def test_modules_are_short(name):
    limit = LINES_OF_THE_ADAPTER if name == "optimizers/base.py" else LINES_OF_A_MODULE
    lines = len((PACKAGE / name).read_text(encoding="utf-8").splitlines())
    assert lines <= limit, f"{name} has {lines} lines, the limit is {limit}"


@every_module
def test_classes_have_few_methods(name):
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    for cls in nodes(name, ast.ClassDef):
        methods = sum(isinstance(node, functions) for node in cls.body)
        assert methods <= METHODS_OF_A_CLASS, (
            f"{name}:{cls.lineno} {cls.name} has {methods} methods, "
            f"the limit is {METHODS_OF_A_CLASS}"
        )


@every_module
def test_modules_import_no_private_name(name):
    imported = [
        f"{name}:{node.lineno} {alias.name} from {node.module}"
        for node in nodes(name, ast.ImportFrom)
        for alias in node.names
        if is_private(alias.name)
    ]
    assert not imported, "\n".join(imported)


@pytest.mark.parametrize("name", ENGINE)
def test_the_engine_touches_no_private_attribute_of_an_optimizer(name):
    touched = [
        f"{name}:{node.lineno} {last_name(node.value)}.{node.attr}"
        for node in nodes(name, ast.Attribute)
        if is_private(node.attr) and last_name(node.value).endswith("optimizer")
    ]
    assert not touched, "\n".join(touched)


@pytest.mark.parametrize("name", CONTRACT)
def test_the_contract_uses_no_private_part_of_keras(name):
    optimizer = keras.optimizers.SGD(use_ema=True, gradient_accumulation_steps=2)
    optimizer.build([keras.Variable(0.0)])
    used = [
        f"{name}:{node.lineno} {node.attr}"
        for node in nodes(name, ast.Attribute)
        if is_private(node.attr) and hasattr(optimizer, node.attr)
    ]
    used += [
        f"{name}:{node.lineno} {node.module}"
        for node in nodes(name, ast.ImportFrom)
        if (node.module or "").startswith("keras.src")
    ]
    assert not used, "\n".join(used)


def test_no_modules_import_each_other():
    """Counts what only type checkers and functions import."""
    graph = grimp.build_graph("keras_adaptive", cache_dir=None)
    imports = {
        module: graph.find_modules_directly_imported_by(module)
        for module in graph.modules
    }
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))
