"""Any name of a metric comes back true, and what MLflow refuses blocks nothing."""

import math
from dataclasses import replace

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.utils.validation import _validate_metric_name
from scripted import scripted

from keras_adaptive.errors import InputError
from keras_adaptive.study import Contender
from keras_adaptive.study.ledger.mlflow_ledger import Ledger
from keras_adaptive.study.ledger.record import Point, Record
from keras_adaptive.study.ledger.safe_names import LONGEST_NAME, encodable, safe_names

NAMES = {
    "val_loss": "val_loss",
    "f1/macro": "f1/macro",
    "\u00e9tat": "\u00e9tat",
    ".x": ".x",
    "precision@0.5": "precision_0.5",
    "top-5 (%)": "top-5 ___",
    "a:b": "a_b",
    "line\nend\n": "line_end_",
    "half \udc80": "half _",
    "a//b": "a__b",
    "/a": "_a",
    "a/": "a_",
    "../a": ".._a".replace(".", "_"),
    ".": "_",
    "": "_",
    "m" * 600: "m" * LONGEST_NAME,
}


@pytest.mark.parametrize("name", NAMES)
def test_mlflow_takes_every_name(name):
    safe = safe_names([name])
    assert safe == {name: NAMES[name]}
    _validate_metric_name(safe[name])


def test_equal_names_get_a_digest_and_good_names_stay():
    names = ["a_b", "a@b", "a%b", "x" * 300, "x" * 301]
    safe = safe_names(names)
    assert safe["a_b"] == "a_b"
    assert len(set(safe.values())) == len(names)
    assert all(len(each) <= LONGEST_NAME for each in safe.values())
    assert safe == safe_names(reversed(names))
    assert safe["a@b"].startswith("a_b_") and len(safe["a@b"]) == len("a_b_") + 8


def test_what_utf8_cannot_hold_is_escaped():
    assert encodable("caf\u00e9 \udce9") == "caf\u00e9 \\udce9"


@pytest.fixture
def records(workload, trial_of):
    made = scripted(trial_of(workload, Contender("keras/sgd", [0.1]), key="a"))
    return [replace(made, key=key) for key in "abc"]


@pytest.fixture
def spool(store):
    return store[0] / "spool"


def renamed(record, metric):
    """A record whose metric has another name, and is NaN at the last point."""
    curve = [
        replace(
            point,
            metrics={
                name.replace("accuracy", metric): value
                for name, value in point.metrics.items()
            },
        )
        for point in record.curve
    ]
    last = replace(curve[-1], metrics=curve[-1].metrics | {f"val_{metric}": math.nan})
    numbers = {
        name.replace("accuracy", metric): value
        for name, value in record.numbers.items()
    }
    return replace(
        record,
        metric=metric,
        curve=(*curve[:-1], last),
        numbers=numbers | {f"test_{metric}": math.inf},
        params=record.params | {f"optimizer.{metric}": "x"},
    )


def sorted_parts(record):
    points = [
        (point.step, point.seconds, point.timestamp, sorted(point.metrics.items()))
        for point in record.curve
    ]
    return repr([sorted(record.numbers.items()), sorted(record.params.items()), points])


@pytest.mark.parametrize(
    "metric", ["precision@0.5", "top-5 (%)", "m" * 600, "m@_m%", "half \udc80"]
)
def test_a_record_with_any_name_of_a_metric_comes_back(store, spool, records, metric):
    record = renamed(records[0], metric)
    told = []
    with Ledger("experiment", spool, told.append).open("a study", {}) as ledger:
        ledger.write(record)
        assert ledger.usable and ledger.spooled == [] and told == []
    with Ledger("experiment", spool).open("a study", {}) as ledger:
        read = ledger["a"]
    assert sorted_parts(read) == sorted_parts(record)
    assert (read.metric, read.score) == (metric, record.score)


def test_the_safe_name_and_the_true_one_are_seen_in_mlflow(store, spool, records):
    with Ledger("experiment", spool).open("a study", {}) as ledger:
        ledger.write(renamed(records[0], "precision@0.5"))
    found = store[1].get_experiment_by_name("experiment")
    (run,) = store[1].search_runs([found.experiment_id], "tags.phase != 'study'")
    assert "final_val_precision_0.5" in run.data.metrics
    told = run.data.tags["true_name.final_val_precision_0.5"]
    assert told == '"final_val_precision@0.5"'
    assert run.data.tags["non_finite.test_precision_0.5"] == "inf at step 12"
    assert "true_name.val_loss" not in run.data.tags


def test_names_of_before_are_read_as_they_are(store, spool, records):
    with Ledger("experiment", spool).open("a study", {}) as ledger:
        ledger.write(records[0])
    found = store[1].get_experiment_by_name("experiment")
    (run,) = store[1].search_runs([found.experiment_id], "tags.phase != 'study'")
    assert not [tag for tag in run.data.tags if tag.startswith("true_name.")]


@pytest.fixture
def picky(monkeypatch):
    """MLflow refuses the run with the key `b`."""
    log_batch = mlflow.MlflowClient.log_batch

    def refuse(client, run_id, *arguments, **options):
        if client.get_run(run_id).data.tags.get("key") == "b":
            raise MlflowException("bad name", error_code=INVALID_PARAMETER_VALUE)
        return log_batch(client, run_id, *arguments, **options)

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", refuse)


def keys_in_mlflow(client):
    found = client.get_experiment_by_name("experiment")
    runs = client.search_runs([found.experiment_id], "tags.phase != 'study'")
    return sorted(run.data.tags["key"] for run in runs)


def test_a_refused_run_is_told_and_blocks_no_other(store, spool, picky, records):
    told = []
    ledger = Ledger("experiment", spool, told.append)
    with ledger.open("a study", {}):
        for record in records:
            ledger.write(record)
    assert ledger.usable
    (line,) = told
    assert "does not take the run of keras/sgd on tiny" in line and "bad name" in line
    assert keys_in_mlflow(store[1]) == ["a", "c"]
    assert [file.name for file in ledger.spooled] == ["b.json"]


def test_a_refused_run_in_the_spool_blocks_no_opening(
    store, spool, picky, records, monkeypatch
):
    waiting = Ledger("experiment", spool)
    for record in records:
        waiting._spool.add(record)
    told = []
    with Ledger("experiment", spool, told.append).open("a study", {}) as ledger:
        assert sorted(ledger) == ["a", "b", "c"]
    (line,) = told
    assert "does not take the run" in line
    assert keys_in_mlflow(store[1]) == ["a", "c"]
    assert [file.name for file in ledger.spooled] == ["b.json"]

    monkeypatch.undo()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store[0]}/mlflow.db")
    with Ledger("experiment", spool, told.append).open("a study", {}) as ledger:
        assert ledger.spooled == []
    assert keys_in_mlflow(store[1]) == ["a", "b", "c"]


def test_a_refused_run_that_is_forgotten_does_not_come_back(
    store, spool, picky, records
):
    with Ledger("experiment", spool).open("a study", {}) as ledger:
        ledger.write(records[1])
        ledger.forget("b")
        assert "b" not in ledger
    with Ledger("experiment", spool).open("a study", {}) as ledger:
        assert "b" not in ledger


@pytest.mark.parametrize(
    "content", [b"", b'{"key": "b", "work', b"[]", b"{}", b"\xff\xfe", b"null"]
)
def test_a_broken_file_of_the_spool_is_set_aside(store, spool, records, content):
    waiting = Ledger("experiment", spool)
    waiting._spool.add(records[0])
    (spool / "experiment" / "b.json").write_bytes(content)
    told = []
    with Ledger("experiment", spool, told.append).open("a study", {}) as ledger:
        assert sorted(ledger) == ["a"]
    (line,) = told
    assert "b.json does not hold a whole run" in line and "b.broken" in line
    kept = spool / "experiment" / "b.broken"
    assert kept.read_bytes() == content
    with Ledger("experiment", spool, told.append).open("a study", {}):
        pass
    assert len(told) == 1


def test_a_name_that_mlflow_refuses_is_not_blamed_on_the_store(store, spool):
    with pytest.raises(InputError, match="refuses a name.*length.*Choose another"):
        Ledger("e" * 501, spool)


def test_the_format_of_the_spool_keeps_any_name(records):
    record = renamed(records[0], "half \udc80")
    assert repr(Record.from_json(record.to_json())) == repr(record)
    assert isinstance(record.curve[0], Point)
