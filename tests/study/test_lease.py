"""Drivers on several hosts share one store; the hosts are made up."""

import threading
import time
from dataclasses import replace

import mlflow
import psutil
import pytest
from scripted import scripted

from keras_adaptive.errors import InputError
from keras_adaptive.study import Contender
from keras_adaptive.study.ledger import driver as drivers
from keras_adaptive.study.ledger import lease as leases
from keras_adaptive.study.ledger.driver import Driver, this_driver
from keras_adaptive.study.ledger.lease import LEASE_SECONDS, Lease, LeaseLost
from keras_adaptive.study.ledger.mlflow_ledger import Ledger
from keras_adaptive.study.ledger.waiting import Teller

SECONDS = 0.6


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setenv(LEASE_SECONDS, str(SECONDS))


@pytest.fixture
def experiment(store):
    return store[1].create_experiment("experiment")


@pytest.fixture
def record(workload, trial_of):
    return scripted(trial_of(workload, Contender("keras/sgd", [0.1]), key="abc"))


def host(name, pid=7):
    return Driver(name, pid, f"machine of {name}", "1")


@pytest.fixture
def on(monkeypatch):
    """Makes what follows happen on another host."""

    def move(name):
        for module in (leases, drivers):
            monkeypatch.setattr(module, "this_driver", lambda: host(name))

    return move


@pytest.fixture
def lease(store, experiment, on):
    def make(name, study="a study", workloads=()):
        on(name)
        return Lease(store[1], experiment, study, workloads, Teller(print))

    return make


def stop_beating(lease):
    """What a driver does whose machine is gone."""
    lease._ended.set()
    lease._thread.join()


def lease_tags(client, experiment):
    tags = client.get_experiment(experiment).tags
    return [tag for tag in tags if tag.startswith(("lease.", "heartbeat."))]


def test_a_driver_that_lives_elsewhere_is_named(lease):
    with (
        lease("one").held(),
        pytest.raises(
            InputError,
            match=r"already, by process 7 on one \(heartbeat \d s ago\)\. Wait until",
        ),
        lease("two").held(),
    ):
        pass


def test_a_lease_is_released_and_its_thread_ended(lease, store, experiment):
    before = threading.active_count()
    with lease("one").held():
        assert len(lease_tags(store[1], experiment)) == 2
        assert threading.active_count() == before + 1
    assert lease_tags(store[1], experiment) == []
    assert threading.active_count() == before
    with lease("two").held():
        pass


def test_a_lease_without_heartbeat_is_taken_and_its_driver_finds_out(lease, capsys):
    with lease("one").held() as first:
        first.verify()
        stop_beating(first)
        started = time.monotonic()
        with lease("two").held() as second:
            assert time.monotonic() - started >= SECONDS
            second.verify()
            with pytest.raises(LeaseLost, match="taken over by another process"):
                first.verify()
            first._beat()  # one that was on its way
            second.verify()
    assert "'a study' is open by process 7 on one. Wait" in capsys.readouterr().out


def test_a_late_heartbeat_is_swept(lease, store, experiment):
    with lease("one").held() as first:
        pass
    first._beat()
    with lease("two").held():
        assert len(lease_tags(store[1], experiment)) == 2
    assert lease_tags(store[1], experiment) == []


def test_the_heartbeat_notices_that_the_lease_is_gone(lease):
    with lease("one").held() as first:
        first._remove(first._claim.token)
        first._thread.join(timeout=10)
        assert first.lost
        with pytest.raises(LeaseLost):
            first.check()


@pytest.mark.parametrize("change", [{"pid": 4_000_000}, {"started": "-1"}])
def test_a_driver_that_died_on_this_machine_is_known_at_once(
    store, experiment, monkeypatch, change
):
    monkeypatch.setenv(LEASE_SECONDS, "1000")
    dead = replace(this_driver(), **change)
    left = Lease(store[1], experiment, "a study", (), Teller(print))
    left._claim = replace(left._claim, driver=dead)
    left._write(held=True)
    with Lease(store[1], experiment, "a study", (), Teller(print)).held():
        assert len(lease_tags(store[1], experiment)) == 2


def test_a_driver_that_lives_on_this_machine_is_known_at_once(
    store, experiment, monkeypatch
):
    monkeypatch.setenv(LEASE_SECONDS, "1000")
    with (
        Lease(store[1], experiment, "a study", (), Teller(print)).held(),
        pytest.raises(InputError, match="run already"),
        Lease(store[1], experiment, "a study", (), Teller(print)).held(),
    ):
        pass


def test_only_a_process_of_one_space_can_be_proven_dead(monkeypatch):
    here = this_driver()
    parent = psutil.Process().ppid()
    assert not here.has_ended()
    assert not replace(here, pid=parent, started=drivers._started(parent)).has_ended()
    assert replace(here, started="-1").has_ended()
    # A container of the same host name, and a machine that hides what it is.
    for machine in ("another space", ""):
        assert not replace(here, machine=machine, started="-1").has_ended()
    monkeypatch.setattr(drivers, "this_machine", lambda: "")
    assert not replace(here, machine="", pid=4_000_000).has_ended()


def test_of_drivers_that_start_at_once_one_wins(store, experiment):
    client = store[1]
    drivers_ = [host(f"host{number}") for number in range(4)]
    for turn in range(2):
        start, done = threading.Barrier(4), threading.Barrier(4)
        outcomes = []

        def drive(driver, study=f"study {turn}", start=start, done=done, out=outcomes):
            lease = Lease(client, experiment, study, (), Teller(lambda line: None))
            lease._claim = replace(lease._claim, driver=driver, seconds=20.0)
            start.wait()
            try:
                with lease.held():
                    out.append(True)
                    done.wait()
            except InputError:
                out.append(False)
                done.wait()

        threads = [threading.Thread(target=drive, args=(each,)) for each in drivers_]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == [False] * 3 + [True]


def test_studies_exclude_each_other_if_they_share_a_workload(lease):
    with lease("one", "a and b", ("a", "b")).held():
        with lease("two", "c", ("c",)).held():
            pass
        with (
            pytest.raises(InputError, match="'a and b' is being run already"),
            lease("three", "b and c", ("b", "c")).held(),
        ):
            pass


@pytest.mark.parametrize("text", ["soon", "0", "-3", "nan", "inf"])
def test_the_time_of_a_lease_is_checked(monkeypatch, text):
    monkeypatch.setenv(LEASE_SECONDS, text)
    with pytest.raises(InputError, match=f"{LEASE_SECONDS} is '{text}'. Expected"):
        leases.lease_seconds()


def half_written(ledger, key):
    tags = {"key": key, "mlflow.parentRunId": ledger.run_id, "phase": "tune"}
    return ledger._client.create_run(ledger.experiment_id, tags=tags).info.run_id


def stage(client, run_id):
    return client.get_run(run_id).info.lifecycle_stage


def test_opening_a_study_leaves_the_runs_of_others(store, tmp_path):
    one, two = (Ledger("experiment", tmp_path) for _ in range(2))
    with one.open("a", {}, ["a"]):
        run = half_written(one, "of a")
        with two.open("b", {}, ["b"]):
            own = half_written(two, "of b")
        assert stage(store[1], run) == "active"
        with two.open("b", {}, ["b"]):
            assert stage(store[1], own) == "deleted"
        store[1].set_terminated(run)
    with Ledger("experiment", tmp_path).open("a", {}, ["a"]) as again:
        assert list(again) == ["of a"]
        assert stage(store[1], run) == "active"


def test_a_run_that_ends_while_it_is_deleted_is_kept(store, tmp_path, monkeypatch):
    ledger = Ledger("experiment", tmp_path)
    with ledger.open("a", {}):
        run = half_written(ledger, "late")
    delete = mlflow.MlflowClient.delete_run

    def end_first(client, run_id):
        client.set_terminated(run_id)
        delete(client, run_id)

    monkeypatch.setattr(mlflow.MlflowClient, "delete_run", end_first)
    again = Ledger("experiment", tmp_path)
    with again.open("a", {}):
        assert list(again) == ["late"]
        assert stage(store[1], run) == "active"


def test_two_hosts_write_a_run_once(store, tmp_path, record, on):
    one, two = (Ledger("experiment", tmp_path) for _ in range(2))
    on("one")
    with pytest.raises(LeaseLost), one.open("a", {}):
        left = half_written(one, "left")
        stop_beating(one._lease)
        on("two")
        with two.open("a", {}):
            assert stage(store[1], left) == "deleted"
            two.write(record)
        one.write(record)
    client = store[1]
    runs = client.search_runs([one.experiment_id])
    children = [run for run in runs if run.data.tags.get("phase") != "study"]
    assert [run.data.tags["key"] for run in children] == ["abc"]
    (parent,) = [run for run in runs if run not in children]
    assert parent.info.status == "FINISHED"  # as the second driver left it
    assert list(tmp_path.glob("**/*.json")) == []
