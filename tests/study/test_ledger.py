import logging
import math
from dataclasses import replace

import mlflow
import pytest
from rich.console import Console

from keras_adaptive.study import comparison
from keras_adaptive.study.errors import StudyError
from keras_adaptive.study.ledger import (
    METRICS_PER_BATCH,
    Ledger,
    flatten,
    quiet_mlflow,
    record,
)
from keras_adaptive.study.training import Point, Protocol, train

PROTOCOL = Protocol(epochs=2, batch_size=16, seeds=(0,))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A folder with a fresh MLflow store, and a client for it."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch, quiet_mlflow():
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        yield folder, mlflow.MlflowClient()
    assert mlflow.active_run() is None


def runs_of(client, experiment):
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return parents, [run for run in runs if run not in parents]


@pytest.fixture(scope="module")
def recorded(store, tiny, build_model, make_sgd):
    """A study with one run, recorded."""
    folder, client = store
    contender = make_sgd(0.5)
    result = train(build_model, contender, tiny, PROTOCOL, seed=0)
    ledger = Ledger("recorded")
    picture = folder / "plot.png"
    picture.write_bytes(b"picture")
    with ledger.study("a study", {"epochs": 2}) as study:
        study.artifact(picture)
        with ledger.child(tiny, contender, seed=0, phase="tune") as run:
            record(run, result)
    (parent,), (child,) = runs_of(client, "recorded")
    return parent, child, result


def test_child_is_found_by_tags_and_params(recorded):
    parent, child, _ = recorded
    marks = {
        "workload": "tiny",
        "contender": "keras/sgd",
        "learning_rate": "0.5",
        "seed": "0",
        "phase": "tune",
    }
    assert marks.items() <= child.data.tags.items()
    assert marks.items() <= child.data.params.items()
    assert child.data.params["optimizer.momentum"] == "0.0"
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.tags["outcome"] == "finished"


def test_statuses_and_artifacts(recorded, store):
    parent, child, _ = recorded
    assert parent.info.status == child.info.status == "FINISHED"
    artifacts = store[1].list_artifacts(parent.info.run_id)
    assert [file.path for file in artifacts] == ["plot.png"]
    assert (store[0] / "mlruns").is_dir()


def test_curves_have_true_steps_and_times(recorded, store):
    _, child, result = recorded
    history = store[1].get_metric_history(child.info.run_id, "val_accuracy")
    assert [metric.step for metric in history] == [4, 8]
    expected = [point.timestamp for point, _ in result.series("val_accuracy")]
    assert [metric.timestamp for metric in history] == expected
    rates = store[1].get_metric_history(child.info.run_id, "learning_rate")
    assert {metric.value for metric in rates} == {0.5}
    assert len(rates) == 8


def test_dataset_is_an_input(recorded, tiny):
    _, child, _ = recorded
    (used,) = child.inputs.dataset_inputs
    assert used.dataset.name == "tiny"
    assert used.dataset.digest == tiny.digest


def test_divergence_is_tagged_and_no_infinity_logged(store, tiny, recorded):
    _, client = store
    _, _, result = recorded
    bad = Point(3, 0.1, 1_000, {"train_loss": math.inf, "val_loss": math.nan})
    lost = replace(result, curve=(bad,), diverged_at=3, test_loss=math.inf)
    ledger = Ledger("diverged")
    with ledger.study("s", {}), ledger.child(tiny, result.contender, 0, "tune") as run:
        record(run, lost)
    _, (child,) = runs_of(client, "diverged")
    assert child.data.tags["outcome"] == "diverged at step 3"
    assert child.data.tags["non_finite.train_loss"] == "inf at step 3"
    assert child.data.tags["non_finite.val_loss"] == "nan at step 3"
    assert not {"train_loss", "val_loss", "test_loss"} & child.data.metrics.keys()
    assert all(map(math.isfinite, child.data.metrics.values()))


def test_long_curves_go_in_several_batches(store):
    ledger = Ledger("long")
    count = 2 * METRICS_PER_BATCH + 5
    with ledger.study("s", {}) as run:
        for step in range(count):
            run.metric("loss", step, 1_000 + step, step)
    (parent,), _ = runs_of(store[1], "long")
    history = store[1].get_metric_history(parent.info.run_id, "loss")
    assert [metric.step for metric in history] == list(range(count))


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), "KILLED"), (OSError("x"), "FAILED")]
)
def test_a_study_that_breaks_off(
    store, tiny, build_model, make_sgd, monkeypatch, error, status
):
    name = f"broken {status}"

    def break_off(*args, **kwargs):
        raise error

    levels = [logging.getLogger(logger).level for logger in ("mlflow", "alembic")]
    monkeypatch.setattr(comparison, "train", break_off)
    with pytest.raises(type(error)):
        comparison.compare(
            name,
            tiny,
            [make_sgd(0.1)],
            "keras/sgd",
            build_model,
            PROTOCOL,
            store[0],
            Console(quiet=True),
        )
    (parent,), (child,) = runs_of(store[1], name)
    assert parent.info.status == child.info.status == status
    if status == "FAILED":
        assert child.data.tags["failure"] == "OSError: x"
    assert mlflow.active_run() is None
    assert levels == [
        logging.getLogger(logger).level for logger in ("mlflow", "alembic")
    ]


def test_a_deleted_experiment_is_an_error(store):
    ledger = Ledger("deleted")
    store[1].delete_experiment(ledger.experiment_id)
    with pytest.raises(StudyError, match="mlflow experiments restore"):
        Ledger("deleted")


def test_an_unusable_store_is_an_error(store, monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{blocked}/mlflow.db")
    with pytest.raises(StudyError, match="file/mlflow.db cannot be used.*Check MLF"):
        Ledger("x")


def test_an_output_folder_that_cannot_be_made(tiny, build_model, make_sgd, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(StudyError, match="cannot be made.*--output"):
        comparison.compare(
            "x",
            tiny,
            [make_sgd(0.1)],
            "keras/sgd",
            build_model,
            PROTOCOL,
            blocked,
            Console(quiet=True),
        )


def test_nested_configurations_are_flattened():
    config = {"rate": {"class_name": "Decay", "config": {"steps": 3}}, "beta": None}
    assert flatten(config, "o") == {
        "o.rate.class_name": "Decay",
        "o.rate.config.steps": "3",
        "o.beta": "None",
    }
