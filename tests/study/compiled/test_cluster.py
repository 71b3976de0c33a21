"""Runs in the processes of a cluster and of executors of `concurrent.futures`."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent import futures
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from dense_runs import dense_model, dense_workload, raises
from rich.console import Console

from keras_adaptive.errors import ClusterError, InputError, MissingExtraError
from keras_adaptive.study import (
    Contender,
    DaskExecutor,
    FuturesExecutor,
    Protocol,
    Study,
)
from keras_adaptive.study.execution.cluster import host

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.jax  # whose processes start the soonest

RUNS = 8


def kills(number, seed):
    """Kills its own process, or that of the host."""
    os.kill(number(), signal.SIGKILL)
    time.sleep(60)


def kills_host_once(mark, seed):
    if not Path(mark).exists():
        Path(mark).touch()
        kills(os.getppid, seed)
    return dense_model(seed)


@pytest.fixture(scope="module")
def here(dense):
    return dense_workload(dense)


@pytest.fixture
def study(here):
    protocol = Protocol(seeds=RUNS // 2, reference="sgd", widening_trials=0)
    contenders = [Contender(name, [0.1]) for name in ("sgd", "adam")]
    return Study("cluster", [here], contenders, protocol)


@pytest.fixture(scope="module")
def client():
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def quiet():
    return Console(file=open(os.devnull, "w"))  # noqa: SIM115


def curves(records):
    return {each.key: each.series("train_loss") for each in records}


def loss_by_run(store):
    """The last loss of each run in MLflow, which must hold each run once."""
    _, client = store
    found = client.get_experiment_by_name("cluster")
    runs = client.search_runs([found.experiment_id], "tags.phase != 'study'")
    assert [run.data.tags for run in runs if run.info.status != "FINISHED"] == []
    by_key = {run.data.tags["key"]: run.data.metrics["test_loss"] for run in runs}
    assert len(by_key) == len(runs)
    return by_key


def in_this_process(study, monkeypatch, tmp_path):
    """The losses of the same study without a cluster."""
    results = study.run(console=quiet(), runner="fit")
    return {each.key: each.numbers["test_loss"] for each in results.table.records}


@pytest.mark.slow
def test_a_study_on_dask_equals_one_here(client, study, store, monkeypatch, tmp_path):
    results = study.run(DaskExecutor(client), quiet(), runner="fit")
    there = {each.key: each.numbers["test_loss"] for each in results.table.records}
    assert len(there) == RUNS
    assert loss_by_run(store) == there
    left = client.run(lambda: list(host._folder().glob("*.joblib")))
    assert not any(left.values())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    assert in_this_process(study, monkeypatch, tmp_path) == pytest.approx(there)


@pytest.mark.slow
def test_compiled_runs_on_dask(client, study, store):
    pytest.importorskip("jax")
    results = study.run(DaskExecutor(client), quiet(), runner="compiled")
    by_phase = {}
    for record in results.table.records:
        by_phase.setdefault(record.phase, []).append(record)
    assert {each.params["engine"] for each in by_phase["compare"]} == {"compiled"}
    assert {each.params["engine"] for each in by_phase["time"]} == {"fit"}
    assert len(by_phase["compare"]) == RUNS
    assert {each.status for each in results.table.records} == {"finished"}


@pytest.mark.slow
def test_what_kills_a_process_or_a_worker_fails_alone(
    client, here, dense, trial_of, tmp_path
):
    cases = {
        "plain": here,
        "local": replace(here, build=lambda seed: dense_model(seed)),
        "raises": replace(here, build=raises),
        "kills its process": replace(here, build=partial(kills, os.getpid)),
        "kills its host": replace(here, build=partial(kills, os.getppid)),
        "kills once": replace(
            here, build=partial(kills_host_once, str(tmp_path / "mark"))
        ),
        "unsendable": replace(here, build=partial(dense_model, threading.Lock())),
    }
    ended = []
    with DaskExecutor(client).start({"dense": dense}) as pool:
        for key, case in cases.items():
            pool.submit(trial_of(case, Contender("adam", [0.1]), key=key))
        ended = list(pool.results())
    assert len(ended) == len(cases)
    statuses = {record.key: (record.status, record.reason) for record in ended}
    good = {key for key, (status, _) in statuses.items() if status == "finished"}
    assert good == {"plain", "local", "kills once"}
    assert statuses["raises"][1].startswith("MemoryError: too large")
    for key in ("kills its process", "kills its host"):
        assert statuses[key][1].startswith("its process died 2 times")


@pytest.mark.slow
def test_an_executor_of_futures(study, store):
    spawned = multiprocessing.get_context("spawn")
    with futures.ProcessPoolExecutor(2, spawned) as executor:
        results = study.run(FuturesExecutor(executor, 2), quiet(), runner="fit")
    assert {each.status for each in results.table.records} == {"finished"}
    assert len(loss_by_run(store)) == RUNS


def test_an_executor_that_is_shut_down_says_so(study, store):
    executor = futures.ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(ClusterError, match="ThreadPoolExecutor takes no run: .* again"):
        study.run(executor, quiet(), runner="fit")


def test_what_is_no_executor_is_refused(study):
    with pytest.raises(InputError, match="Expected InProcess"):
        study.run("dask")


class Scheduler:
    """A scheduler and workers as processes of their own, over TCP."""

    def __init__(self, folder, workers=1):
        self._folder = folder
        self._file = folder / "scheduler.json"
        self._file.unlink(missing_ok=True)
        common = [f"--scheduler-file={self._file}", "--no-dashboard"]
        self.scheduler = self._run("dask_scheduler", *common, "--host=127.0.0.1")
        while not self._file.exists():
            assert self.scheduler.poll() is None
            time.sleep(0.05)
        self.workers = [
            self._run("dask_worker", *common, "--nthreads=1") for _ in range(workers)
        ]

    def _run(self, module, *arguments):
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{module}", *arguments],
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def client(self):
        return distributed.Client(scheduler_file=str(self._file))

    def end(self):
        for process in (*self.workers, self.scheduler):
            process.terminate()
            process.wait()


@pytest.fixture
def start_scheduler(tmp_path):
    started = []

    def start(**options):
        started.append(Scheduler(tmp_path, **options))
        return started[-1]

    yield start
    for each in started:
        each.end()


@pytest.mark.slow
def test_a_scheduler_that_dies_loses_nothing(
    start_scheduler, study, store, monkeypatch
):
    first = start_scheduler()
    shown = []

    class Killing(Console):
        def print(self, *lines, **options):
            shown.extend(str(line) for line in lines)
            if sum("/8 dense" in line for line in shown) == 3:
                first.scheduler.send_signal(signal.SIGKILL)

    # So long the client tries to find the scheduler again when it closes.
    monkeypatch.setitem(
        dask.config.config["distributed"]["comm"]["timeouts"], "connect", "5s"
    )
    with first.client() as client, pytest.raises(ClusterError, match="no longer answ"):
        study.run(DaskExecutor(client), Killing(file=sys.stdout), runner="fit")
    kept = loss_by_run(store)
    assert 3 <= len(kept) < RUNS
    with start_scheduler().client() as client:
        study.run(DaskExecutor(client), quiet(), runner="fit")
    whole = loss_by_run(store)
    assert len(whole) == RUNS
    assert whole.items() >= kept.items()


@pytest.mark.slow
def test_bad_clusters_are_refused_before_any_run(start_scheduler, study, monkeypatch):
    scheduler = start_scheduler(workers=0)
    with (
        scheduler.client() as client,
        pytest.raises(InputError, match="no worker for 0 s. Start workers"),
    ):
        study.run(DaskExecutor(client, seconds_to_wait=0.1), runner="fit")
    with (
        pytest.raises(InputError, match="No scheduler answers at 'tcp://127.0.0.1:9'"),
        DaskExecutor.connected("tcp://127.0.0.1:9"),
    ):
        pass


@pytest.mark.slow
def test_workers_with_other_versions_are_refused(client, study, store, monkeypatch):
    ours = host.software() | {"keras": "3.0.0"}
    monkeypatch.setattr(host, "software", lambda: ours)
    with pytest.raises(InputError, match=r"keras 3\.\d+\.\d+ \(here 3.0.0\)"):
        study.run(DaskExecutor(client), quiet(), runner="fit")


def test_dask_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    name = "keras_adaptive.study.execution.cluster.dask_executor"
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(MissingExtraError, match=r"keras-adaptive\[cluster\]"):
        __import__(name, fromlist=["DaskExecutor"])
