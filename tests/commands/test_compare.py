"""Bring your own: a model and data, from the command line to a recommendation."""

import io
import sys
from dataclasses import replace
from pathlib import Path

import keras
import mlflow
import numpy as np
import pandas as pd
import pytest

from keras_adaptive import cli
from keras_adaptive.commands import compare
from keras_adaptive.commands import options as command
from keras_adaptive.commands.compare import load_builder
from keras_adaptive.datasets import Dataset, Split
from keras_adaptive.datasets.frames import load_frame
from keras_adaptive.study import Epochs, Protocol, StudyError
from keras_adaptive.study import compare as compared
from keras_adaptive.study.compare import (
    QUICK,
    QUICK_COMPILED,
    comparison,
    from_seed,
    objective,
    quick_protocol,
)

MODEL = """
import keras
from helper import UNITS


def build_model():
    return keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(UNITS, activation="softmax")]
    )


def compiled():
    model = build_model()
    model.compile("adam", "mse")
    return model


def raises():
    raise RuntimeError("not today")


def nothing():
    return None


def greedy(features, classes):
    return build_model()


def five_outputs():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(5)])


def other_inputs():
    return keras.Sequential([keras.Input((7,)), keras.layers.Dense(2)])


FACT = 42
"""


def frame(rows=60):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 2))
    return pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "label": x.sum(axis=1) > 0})


@pytest.fixture
def own(store, monkeypatch):
    """A folder with a model, data and an empty MLflow store."""
    folder, client = store
    (folder / "my_model.py").write_text(MODEL)
    (folder / "helper.py").write_text("UNITS = 2\n")
    frame().to_csv(folder / "train.csv", index=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "helper", raising=False)
    return folder, client


@pytest.fixture
def small(monkeypatch):
    """Makes a first look smaller still."""
    protocol = Protocol(tuning_trials=2, widening_trials=0, seeds=2, budget=Epochs(1))
    monkeypatch.setattr(compare, "quick_protocol", lambda data, runner: protocol)


OWN = ["--data", "train.csv", "--target", "label", "--quick"]


@pytest.mark.slow
def test_from_a_model_and_a_file_to_a_recommendation(own, small, monkeypatch, capsys):
    """Trained in a process of its own, which cannot import the model's file."""
    folder, client = own
    monkeypatch.setenv("KERAS_BACKEND", "jax")  # that process starts faster with it
    arguments = [*OWN, "--model", "my_model.py:build_model", "--workers", "1"]
    arguments += ["--optimizers", "adam", "--epochs", "2", "--output", "out"]
    assert cli.main(["compare", *arguments]) == 0
    shown = capsys.readouterr().out
    assert "8/8" in shown
    last = " ".join(shown.splitlines()[-4:])
    assert "as a guess" in last and "2 pairs of runs cannot show a difference" in last
    assert "undecided" in shown and "2 pairs cannot decide this" in shown
    (place,) = folder.glob("out/compare-csv-train.csv-build_model-*")
    assert {each.name for each in place.iterdir()} == {"plots", "tables", "report.html"}
    found = client.get_experiment_by_name("compare")
    runs = client.search_runs([found.experiment_id])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert {run.info.status for run in children} == {"FINISHED"}
    assert {run.data.tags["contender"] for run in children} == {
        "keras/sgd-momentum",
        "adam",
    }
    assert {run.data.params["machine.accelerators"] for run in children} == {"none"}
    (parent,) = [run for run in runs if run not in children]
    kept = {each.path for each in client.list_artifacts(parent.info.run_id)}
    assert "report.html" in kept


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--optimizers", "adam,adagard"], "Did you mean 'adagrad'?"),
        (["--optimizers", " , "], "no optimizers to compare"),
        (["--target", "lable"], "has no column 'lable'. Its columns are: a, b, label"),
        (["--target", "lable"], "Did you mean 'label'?"),
        (["--data", "trian.csv"], "trian.csv does not exist"),
        (["--model", "my_model.py"], "such as my_model.py:build_model"),
        (["--model", "mine.py:build_model"], "mine.py does not exist"),
        (["--model", "my_model.py:build_modle"], "Did you mean 'build_model'?"),
        (["--model", "my_model.py:FACT"], "has no function 'FACT'"),
        (["--model", "my_model.py:compiled"], "returns a model that is compiled"),
        (["--model", "my_model.py:raises"], "raises RuntimeError: not today"),
        (["--model", "my_model.py:nothing"], "returns None. Expected a keras.Model"),
        (["--model", "my_model.py:greedy"], "needs the arguments features, classes"),
        (["--model", "my_model.py:five_outputs"], "but it gives 5"),
        (["--model", "my_model.py:other_inputs"], "The model cannot be called with"),
        (["--model", "broken.py:build"], "broken.py cannot be run: SyntaxError"),
        (["--loss", "mean_sqared_error"], "Did you mean 'mean_squared_error'?"),
        (["--metric", "acuracy"], "Did you mean 'accuracy'?"),
        (["--output", "train.csv"], "Name another with --output"),
        (["--data", "one_class.csv"], "only the class"),
        (["--data", "gaps.csv"], "3 of 60 rows have no label"),
    ],
)
def test_bad_input_is_told_before_any_training(
    own, small, monkeypatch, capsys, arguments, words
):
    folder, _ = own
    (folder / "broken.py").write_text("def build(:")
    frame().assign(label="yes").to_csv(folder / "one_class.csv", index=False)
    gaps = frame().astype({"label": object})
    gaps.loc[:2, "label"] = None
    gaps.to_csv(folder / "gaps.csv", index=False)

    def train(*_):
        raise AssertionError("it trained")

    monkeypatch.setattr("keras_adaptive.study.execution.executors.attempt", train)
    assert cli.main(["compare", *OWN, *arguments]) == 2
    error = capsys.readouterr().err
    assert "error: " in error
    assert words in error


@pytest.mark.parametrize(
    ("x", "runner", "jax", "compiled"),
    [
        (np.zeros((4, 3)), "auto", True, True),
        ({"a": np.zeros((4, 3)), "b": np.zeros(4)}, "compiled", True, True),
        (np.zeros((4, 3)), "auto", False, False),
        (np.zeros((4, 3)), "fit", True, False),
        (np.zeros((4, 3, 3)), "auto", True, False),
        ({"a": np.zeros((4, 3)), "b": np.zeros((4, 3, 3, 1))}, "auto", True, False),
    ],
)
def test_a_first_look_decides_where_runs_are_compiled(
    x, runner, jax, compiled, monkeypatch
):
    monkeypatch.setattr(compared, "has_jax", lambda: jax)
    y = np.arange(4) % 2
    data = Dataset("any", "made here", *3 * [Split(x, y)], classes=("a", "b"))
    expected = QUICK_COMPILED if compiled else QUICK
    assert quick_protocol(data, runner) == expected


def test_a_first_look_at_sparse_features_is_by_fit(tiny):
    assert quick_protocol(tiny) == QUICK


@pytest.mark.parametrize("option", ["--seeds", "--epochs", "--tuning-seeds"])
def test_no_seeds_and_no_epochs_are_errors(own, capsys, option):
    with pytest.raises(SystemExit) as caught:
        cli.main(["compare", *OWN, option, "0"])
    assert caught.value.code == 2
    assert "is not a whole number above 0" in capsys.readouterr().err


def test_options_change_the_protocol(own, monkeypatch):
    seen = []

    def run_study(study, options, console):
        seen.append(study)
        raise StudyError("enough")

    monkeypatch.setattr(command, "run_study", run_study)
    given = ["--seeds", "4", "--epochs", "7", "--tuning-seeds", "2"]
    without_quick = OWN[:-1]
    by_fit = [*OWN, "--runner", "fit"]
    for arguments in (without_quick, OWN, by_fit, [*without_quick, *given]):
        assert cli.main(["compare", *arguments]) == 2
    full, compiled, quick, changed = (study.protocol for study in seen)
    assert len(compiled.evaluation_seeds) == 10 and len(compiled.seeds_to_tune) == 6
    assert compiled.tuning_trials == 5
    assert len(full.evaluation_seeds) == 10 and len(full.seeds_to_tune) == 6
    assert len(quick.evaluation_seeds) == 3 and quick.tuning_trials == 5
    assert (changed.evaluation_seeds, changed.budget) == ((0, 1, 2, 3), Epochs(7))
    assert len(changed.seeds_to_tune) == 2
    assert seen[0].workloads[0].name == "csv:train.csv"


def data_of(label):
    return load_frame("t", "made up", frame().assign(label=label(frame())), "label")


TWO = data_of(lambda each: each["label"])
THREE = data_of(lambda each: np.arange(60) % 3)
NUMBER = data_of(lambda each: each["a"] * 3)


def net(units, activation=None):
    dense = keras.layers.Dense(units, activation)
    return keras.Sequential([keras.Input((2,)), dense])


@pytest.mark.parametrize(
    ("data", "model", "loss", "logits"),
    [
        (TWO, net(2, "softmax"), "SparseCategoricalCrossentropy", False),
        (TWO, net(2), "SparseCategoricalCrossentropy", True),
        (THREE, net(3, "softmax"), "SparseCategoricalCrossentropy", False),
        (THREE, net(3, "relu"), "SparseCategoricalCrossentropy", True),
        (TWO, net(1, "sigmoid"), "BinaryCrossentropy", False),
        (TWO, net(1), "BinaryCrossentropy", True),
        (NUMBER, net(1), "MeanSquaredError", None),
    ],
)
def test_the_loss_is_that_of_the_task_and_the_outputs(data, model, loss, logits):
    found, metric = objective(model, data)
    assert type(found).__name__ == loss
    assert found.get_config().get("from_logits") == logits
    name = metric if isinstance(metric, str) else metric().name
    assert name == ("root_mean_squared_error" if data is NUMBER else "accuracy")


def test_the_accuracy_of_one_logit_is_cut_at_0():
    _, metric = objective(net(1), TWO)
    measured = metric()
    measured.update_state([[0], [1]], [[-0.1], [0.1]])
    assert float(measured.result()) == 1


@pytest.mark.parametrize(
    ("data", "model", "words"),
    [
        (THREE, net(1), "Expected 3 a row, one for each class, but it gives 1"),
        (TWO, net(3), "Expected 2 a row, one for each class, or 1 for the two"),
        (NUMBER, net(2), "Expected one number a row, but it gives 2"),
    ],
)
def test_outputs_that_fit_no_loss(data, model, words):
    with pytest.raises(StudyError, match=words):
        objective(model, data)


def test_builders_with_and_without_a_seed():
    def optional(width=3, seed=7):
        return width, seed

    assert from_seed(optional)(1) == (3, 1)
    assert from_seed(lambda width=3: width)(1) == 3
    assert from_seed(lambda anything: anything)(1) == 1
    with pytest.raises(StudyError, match="needs the arguments width"):
        from_seed(lambda width, seed: None)


def test_the_file_of_a_model_may_be_called_like_a_library(own):
    folder, _ = own
    (folder / "mlflow.py").write_text("def build(seed): return seed")
    assert load_builder("mlflow.py:build")(3) == 3
    assert hasattr(mlflow, "MlflowClient")


def test_loss_and_metric_may_be_given():
    study = comparison(TWO, lambda: net(2, "softmax"), ["adam"], QUICK, metric="loss")
    assert (study.workloads[0].metric_name, study.workloads[0].direction) == (
        "loss",
        "min",
    )
    study = comparison(THREE, None, ["adam"], QUICK, "mse", "mae")
    assert (study.workloads[0].loss, study.workloads[0].direction) == ("mse", "min")


def test_another_reference():
    protocol = Protocol(tuning_trials=5, reference="adam")
    assert comparison(TWO, None, ["adam", "keras/adam"], protocol).reference == "adam"


def test_another_comparison_has_another_identity():
    def identity(data=TWO, names=("adam",), protocol=QUICK, **options):
        return comparison(data, None, names, protocol, **options).identity

    same = identity()
    assert same == identity()
    others = [
        identity(data=THREE),
        identity(names=("adam", "lion")),
        identity(protocol=replace(QUICK, budget=Epochs(6))),
        identity(protocol=replace(QUICK, seeds=4)),
        identity(metric="loss"),
        identity(data=data_of(lambda each: ~each["label"])),
    ]
    assert len({same, *others}) == 7


def test_an_unwritable_results_folder_is_told_before_training(
    own, small, monkeypatch, capsys
):
    folder, _ = own

    def no_training(*_):
        raise AssertionError("it trained")

    def full(dir):
        if Path(dir).name == "plots":
            raise OSError(28, "No space left on device")
        return io.BytesIO()

    monkeypatch.setattr(command, "run_study", no_training)
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    assert cli.main(["compare", *OWN]) == 2
    error = capsys.readouterr().err
    assert "Nothing can be written to" in error
    assert "No space left on device" in error and "--output" in error
