import json
import logging
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
from scripted import scripted

from keras_adaptive.errors import StudyError
from keras_adaptive.study import Contender
from keras_adaptive.study.design.setting import Setting
from keras_adaptive.study.ledger import curve_tags
from keras_adaptive.study.ledger.artifacts import Artifacts
from keras_adaptive.study.ledger.connection import NO_LINKS, quiet_mlflow
from keras_adaptive.study.ledger.mlflow_ledger import Ledger
from keras_adaptive.study.ledger.mlflow_runs import METRICS_PER_BATCH
from keras_adaptive.study.ledger.record import Point, Record
from keras_adaptive.study.ledger.run_values import flatten, setting_of
from keras_adaptive.study.ledger.spool import Spool

SPOOL = Path("spool")


@pytest.fixture
def record(workload, trial_of):
    """A run that finished; its time per step is NaN."""
    trial = trial_of(workload, Contender("keras/sgd", [0.0316228]), key="abc")
    return scripted(replace(trial, params=trial.params | {"optimizer.momentum": "0.0"}))


@pytest.fixture
def ledger(store):
    return Ledger("experiment", SPOOL)


def runs_of(client, experiment="experiment"):
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return parents, [run for run in runs if run not in parents]


def written(ledger, record):
    """The record as another process reads it."""
    with ledger.open("a study", {}):
        ledger.write(record)
    again = Ledger("experiment", SPOOL)
    with again.open("a study", {}):
        return again.get(record.key)


def same(one, other):
    """Whether records are equal, NaN included."""
    return repr(one) == repr(other)


def ordered(record):
    """The record with its dictionaries sorted."""
    curve = tuple(
        replace(point, metrics=dict(sorted(point.metrics.items())))
        for point in record.curve
    )
    return replace(
        record,
        curve=curve,
        params=dict(sorted(record.params.items())),
        numbers=dict(sorted(record.numbers.items())),
    )


def diverged(record):
    curve = (
        *record.curve[:1],
        Point(7, 1.75, 1_500, {"train_loss": math.inf, "learning_rate": 0.1}),
        Point(8, 2.0, 1_600, {"val_loss": math.nan, "val_accuracy": 0.5}),
    )
    reason = "not finite at step 8"
    numbers = {"initial_val_loss": 2.0, "first_round_seconds": 1.0}
    return replace(
        record, status="diverged", reason=reason, curve=curve, numbers=numbers
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record,
        diverged,
        lambda record: replace(record, setting=Setting(1 / 3, ("epsilon", 1e-8 / 3))),
        lambda record: replace(
            record, status="failed", reason="OSError: x", curve=(), numbers={}
        ),
        lambda record: replace(record, phase="tune", metric="mae", direction="min"),
    ],
    ids=["finished", "diverged", "second", "failed", "tune"],
)
def test_what_is_read_is_what_was_written(ledger, record, change):
    record = change(record)
    assert same(ordered(written(ledger, record)), ordered(record))
    assert same(Record.from_json(record.to_json()), record)


def test_a_run_is_found_by_tags_and_params(ledger, store, record):
    written(ledger, record)
    (parent,), (child,) = runs_of(store[1])
    marks = {
        "workload": "tiny",
        "contender": "keras/sgd",
        "learning_rate": "0.0316228",
        "seed": "0",
        "phase": "compare",
    }
    assert marks.items() <= child.data.tags.items()
    assert marks.items() <= child.data.params.items()
    assert child.data.params["optimizer.momentum"] == "0.0"
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.tags["status"] == "finished"
    assert parent.info.status == child.info.status == "FINISHED"
    assert (child.info.start_time, child.info.end_time) == (1_000, record.ended)


def test_curves_have_true_steps_and_times(ledger, store, record):
    written(ledger, record)
    _, (child,) = runs_of(store[1])
    history = store[1].get_metric_history(child.info.run_id, "val_accuracy")
    assert [metric.step for metric in history] == [4, 8, 12]
    assert [metric.timestamp for metric in history] == [1_001, 1_002, 1_003]
    rates = store[1].get_metric_history(child.info.run_id, "learning_rate")
    assert [metric.value for metric in rates] == [0.0316228] * 3


def test_dataset_is_an_input(ledger, store, record):
    written(ledger, record)
    _, (child,) = runs_of(store[1])
    (used,) = child.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("tiny", "d")
    assert "made for tests" in used.dataset.source


def test_infinity_is_tagged_and_not_logged(ledger, store, record):
    written(ledger, diverged(record))
    _, (child,) = runs_of(store[1])
    assert child.data.tags["status"] == "diverged"
    assert child.data.tags["non_finite.train_loss"] == "inf at step 7"
    assert child.data.tags["non_finite.val_loss"] == "nan at step 8"
    assert all(map(math.isfinite, child.data.metrics.values()))


def test_long_curves_go_in_several_batches(ledger, store, record):
    count = 2 * METRICS_PER_BATCH + 5
    curve = tuple(
        Point(step, step / 10, 1_000 + step, {"train_loss": 1.0})
        for step in range(count)
    )
    many = {f"optimizer.{number}": "x" for number in range(150)}
    record = replace(record, curve=curve, params=record.params | many)
    assert same(ordered(written(ledger, record)), ordered(record))


def test_a_curve_too_long_for_tags_is_read_from_its_metrics(
    ledger, record, monkeypatch
):
    monkeypatch.setattr(curve_tags, "MOST_TAGS", 0)
    record = diverged(record)
    assert same(ordered(written(ledger, record)), ordered(record))


def test_files_go_to_the_study_s_run(ledger, store):
    (store[0] / "plot.png").write_bytes(b"picture")
    with ledger.open("a study", {}):
        pass
    artifacts = Artifacts(ledger.run_id)
    artifacts.attach(store[0] / "plot.png")
    artifacts.attach(store[0] / "plot.png", "digits")
    files = store[1].list_artifacts(ledger.run_id)
    assert [file.path for file in files] == ["digits", "plot.png"]
    assert (store[0] / "mlruns").is_dir()


def test_a_study_keeps_its_run_and_says_what_was_asked_last(ledger, store):
    for seeds in ("0", "0, 1"):
        with ledger.open("it's a study", {"seeds": seeds}):
            pass
    with ledger.open("another", {"seeds": "7"}):
        pass
    parents, _ = runs_of(store[1])
    seeds = {run.data.tags["study"]: run.data.tags["seeds"] for run in parents}
    assert seeds == {"it's a study": "0, 1", "another": "7"}


@pytest.mark.parametrize("links", [None, "false"])
def test_what_holds_mlflow_back_is_taken_away(monkeypatch, links):
    monkeypatch.delenv(NO_LINKS, raising=False)
    if links:
        monkeypatch.setenv(NO_LINKS, links)
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    with pytest.raises(KeyError), quiet_mlflow():
        raise KeyError
    assert [logger.level for logger in loggers] == levels
    assert os.environ.get(NO_LINKS) == links


def test_a_deleted_experiment_is_an_error(ledger, store):
    store[1].delete_experiment(ledger.experiment_id)
    with pytest.raises(StudyError, match="mlflow experiments restore"):
        Ledger("experiment", SPOOL)


def test_an_unusable_store_is_an_error(store, monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{blocked}/mlflow.db")
    with pytest.raises(StudyError, match="file/mlflow.db cannot be used.*Check MLF"):
        Ledger("x", SPOOL)


def test_nested_configurations_are_flattened():
    config = {"rate": {"class_name": "Decay", "config": {"steps": 3}}, "beta": None}
    assert flatten(config, "o") == {
        "o.rate.class_name": "Decay",
        "o.rate.config.steps": "3",
        "o.beta": "None",
    }


def test_the_spool_keeps_its_format(tmp_path, record):
    record = replace(record, setting=Setting(0.1, ("epsilon", 1e-8)))
    Spool(tmp_path).add(record)
    (file,) = tmp_path.iterdir()
    assert file.name == "abc.json"
    stored = json.loads(file.read_text(encoding="utf-8"))
    assert stored["setting"] == {"learning_rate": 0.1, "second": ["epsilon", 1e-8]}
    assert same(Spool(tmp_path).records(print), {file: record})


def test_an_extra_hyper_parameter_is_tagged(ledger, store, record):
    written(ledger, replace(record, setting=Setting(0.1, ("epsilon", 1e-8))))
    _, (child,) = runs_of(store[1])
    assert child.data.tags["second"] == "epsilon"
    assert child.data.tags["hyperparameter.epsilon"] == "1e-08"


def test_an_extra_hyper_parameter_of_an_earlier_record_is_read():
    tags = {"learning_rate": "0.1", "second": "epsilon", "epsilon": "1e-08"}
    assert setting_of(tags) == Setting(0.1, ("epsilon", 1e-8))


def test_the_ledger_is_a_mapping_of_the_runs_done(ledger, record):
    written(ledger, record)
    again = Ledger("experiment", SPOOL)
    with pytest.raises(RuntimeError, match="not been opened"):
        _ = again.run_id
    with again.open("a study", {}):
        assert list(again) == ["abc"] and len(again) == 1
        assert "abc" in again and "other" not in again
        assert again["abc"].key == "abc" and again.get("other") is None
