"""A study against MLflow's server on PostgreSQL, which goes away in between."""

import io
import threading

import pandas as pd
import pytest
from mlflow import MlflowClient
from rich.console import Console
from scripted import Scripted, scripted

from benchmarks.servers import missing, server_on_postgres
from keras_adaptive.study import Contender, Protocol, Study
from keras_adaptive.study.ledger import connection
from keras_adaptive.study.ledger.connection import quiet_mlflow

pytestmark = pytest.mark.slow

RATES = [0.01, 0.1, 1.0]
RUNS = 2 * (len(RATES) + 4)


@pytest.fixture(scope="module")
def running():
    if reason := missing():
        pytest.skip(reason)
    with server_on_postgres() as both:
        yield both


@pytest.fixture
def server(running, monkeypatch, tmp_path):
    server, _ = running
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.chdir(tmp_path)
    with quiet_mlflow():
        yield server


@pytest.fixture
def study_called(workload):
    def make(name):
        contenders = [Contender(each, RATES) for each in ("sgd", "adam")]
        protocol = Protocol(
            tuning_trials=len(RATES), widening_trials=0, seeds=4, reference="sgd"
        )
        return Study(name, [workload], contenders, protocol)

    return make


def run(study, executor):
    console = Console(file=io.StringIO(), width=200)
    results = study.run(executor, console, runner="fit")
    return results, console.file.getvalue()


def keys(study):
    """The keys of all runs that the server has, each of them done."""
    client = MlflowClient()
    found = client.get_experiment_by_name(study.name)
    runs = client.search_runs([found.experiment_id], "tags.phase != 'study'")
    assert {each.info.status for each in runs} == {"FINISHED"}
    return sorted(each.data.tags["key"] for each in runs)


def calling(act, before):
    """Makes records, and calls a function before the one of a number."""
    count = iter(range(RUNS))

    def make(trial):
        if next(count) == before:
            act()
        return scripted(trial)

    return make


def test_a_study_on_a_server_is_resumed_without_a_run(server, study_called):
    study = study_called("resumed")
    results, _ = run(study, Scripted())
    assert len(keys(study)) == RUNS == len(results.runs)
    watched = Scripted()
    again, _ = run(study, watched)
    assert watched.made == []
    pd.testing.assert_frame_equal(again.runs, results.runs)
    pd.testing.assert_frame_equal(again.curves, results.curves)


def test_a_server_that_comes_back_loses_and_doubles_nothing(server, study_called):
    study = study_called("restarted")
    threads = []

    def go_and_come_back():
        server.stop()
        threads.append(threading.Timer(2, server.start))
        threads[-1].start()

    executor = Scripted(calling(go_and_come_back, before=RUNS // 2))
    results, told = run(study, executor)
    for thread in threads:
        thread.join()
    assert "Trying it again" in told and "wait in" not in told
    assert len(executor.made) == RUNS
    assert keys(study) == sorted(each.key for each in results.records)
    assert len(set(keys(study))) == RUNS


def test_a_server_that_goes_within_a_run_leaves_no_half(
    server, study_called, monkeypatch
):
    log_inputs = MlflowClient.log_inputs
    count = iter(range(10 * RUNS))

    def goes(*arguments, **options):
        if next(count) == RUNS // 2:
            server.stop()
            server.start()
            raise OSError("the connection was closed")
        return log_inputs(*arguments, **options)

    monkeypatch.setattr(MlflowClient, "log_inputs", goes)
    study = study_called("cut")
    results, told = run(study, Scripted())
    assert "Trying it again" in told
    assert keys(study) == sorted(each.key for each in results.records)


def test_a_server_that_stays_away_gets_the_runs_later(
    server, study_called, monkeypatch
):
    monkeypatch.setattr(connection, "LONGEST_WAIT", 0.0)
    study = study_called("delivered")
    executor = Scripted(calling(server.stop, before=RUNS // 2))
    results, told = run(study, executor)
    assert "runs wait in mlflow-spool" in told
    server.start()
    watched = Scripted()
    again, told = run(study, watched)
    assert watched.made == [] and "wait in" not in told
    assert keys(study) == sorted(each.key for each in results.records)
    pd.testing.assert_frame_equal(again.runs, results.runs)


def test_a_database_that_comes_back_loses_and_doubles_nothing(
    server, running, study_called
):
    _, postgres = running

    def restart():
        postgres.stop()
        postgres.start()

    study = study_called("database")
    results, _ = run(study, Scripted(calling(restart, before=RUNS // 2)))
    assert keys(study) == sorted(each.key for each in results.records)
    assert len(results.records) == RUNS
