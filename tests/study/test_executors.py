"""Runs in processes of their own."""

import os
import signal
import threading
import time
from concurrent import futures
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from dense_runs import dense_model, dense_workload, raises
from loky.process_executor import BrokenProcessPool

from keras_adaptive.study import Contender, Processes, StudyError
from keras_adaptive.study.execution import this_machine, worker_pool
from keras_adaptive.study.execution.this_machine import affordable_workers
from keras_adaptive.study.execution.worker import threads_each
from keras_adaptive.study.execution.worker_pool import WorkerPool


def dies(seed):
    os.kill(os.getpid(), signal.SIGKILL)


def dies_once(seed):
    mark = Path(os.environ["KERAS_ADAPTIVE_TEST_MARK"])
    if not mark.exists():
        mark.touch()
        dies(seed)
    return dense_model(seed)


def tell_threads(seed):
    import torch

    raise RuntimeError(f"{torch.get_num_threads()} threads")


@pytest.fixture
def mark(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_ADAPTIVE_TEST_MARK", str(tmp_path / "mark"))


@pytest.fixture
def workload(dense):
    return dense_workload(dense)


@pytest.mark.slow
def test_processes(mark, workload, dense, trial_of):
    """Runs that end well, raise or die, more of them than processes."""
    local = replace(workload, build=lambda seed: dense_model(seed))
    cases = {
        "plain": workload,
        "local": local,
        "raises": replace(workload, build=raises),
        "threads": replace(workload, build=tell_threads),
        "dies once": replace(workload, build=dies_once),
        "dies": replace(workload, build=dies),
        "unsendable": replace(workload, build=partial(dense_model, threading.Lock())),
    }
    contender = Contender("adam", [0.1])
    with Processes(2).start({"dense": dense}) as pool:
        for key, case in cases.items():
            pool.submit(trial_of(case, contender, seed=3, key=key))
        records = {record.key: record for record in pool.results()}
        folder = Path(next(iter(pool._files.values()))).parent
        assert folder.is_dir()
    assert not folder.exists()
    assert {key: record.status for key, record in records.items()} == {
        "plain": "finished",
        "local": "finished",
        "raises": "failed",
        "threads": "failed",
        "dies once": "finished",
        "dies": "failed",
        "unsendable": "failed",
    }
    assert records["raises"].reason.startswith("MemoryError: too large")
    assert records["threads"].reason.startswith(f"RuntimeError: {threads_each(2)} thr")
    assert records["dies"].reason.startswith("its process died 2 times")
    assert records["unsendable"].reason.startswith("it cannot be sent to a process")
    losses = [
        [value for _, value in records[key].series("train_loss")]
        for key in ("plain", "local", "dies once")
    ]
    assert losses[0] == losses[1] == losses[2]


def test_as_many_processes_as_processors_and_memory_allow(monkeypatch):
    class Memory:
        available = 10e9

    monkeypatch.setattr(this_machine.loky, "cpu_count", lambda: 8)
    monkeypatch.setattr(this_machine.psutil, "virtual_memory", lambda: Memory)
    assert affordable_workers(0) == 8
    assert affordable_workers(500_000_000) == 4
    assert affordable_workers(10**12) == 1
    assert [threads_each(workers) for workers in (1, 3, 8, 16)] == [8, 2, 1, 1]


@pytest.mark.parametrize("count", [0, -1, 1.5])
def test_bad_counts(count):
    with pytest.raises(StudyError, match="whole number above 0"):
        Processes(count)


@pytest.mark.slow
def test_a_worker_that_dies_between_two_runs_is_replaced(
    mark, workload, dense, trial_of
):
    contender = Contender("adam", [0.1])
    with Processes(1).start({"dense": dense}) as pool:
        pool.submit(trial_of(workload, contender, key="first"))
        records = []
        for record in pool.results():
            records.append(record)
            (worker,) = pool._idle
            (process,) = worker._executor._processes.values()
            os.kill(process.pid, signal.SIGKILL)
            while not worker._executor._flags.broken:
                time.sleep(0.01)
            if record.key == "first":
                pool.submit(trial_of(workload, contender, key="second"))
    assert [(each.key, each.status) for each in records] == [
        ("first", "finished"),
        ("second", "finished"),
    ]
    assert pool._tries == {}


class StartingWorker:
    """A worker that starts until a line is told, and whose first run then dies."""

    def __init__(self):
        self.is_starting, self.futures, self.told = True, [], []

    programs: set[str] = set()

    def call(self, attempt, task, file):
        self.futures.append(futures.Future())
        if len(self.futures) == 2:
            self.futures[1].set_result(["a record"])
        return self.futures[-1]

    def say(self, console, line):
        self.told.append(line)
        if not self.is_starting and not self.futures[0].done():
            self.futures[0].set_exception(BrokenProcessPool("killed"))
        self.is_starting = False

    def end(self):
        pass


def test_processes_that_start_or_die_are_told(monkeypatch, workload, trial_of):
    worker = StartingWorker()
    monkeypatch.setattr(worker_pool, "SECONDS_BETWEEN_NOTES", 0.01)
    monkeypatch.setattr(worker_pool, "say", worker.say)
    pool = WorkerPool([worker], {"dense": "file"}, None)
    pool.submit(trial_of(workload, Contender("adam", [0.1])))
    assert list(pool.results()) == ["a record"]
    starting, started, died = worker.told
    assert starting.startswith("Processes that are still starting: 1 … ")
    assert started == "All processes have started."
    assert "died" in died and "made again" in died
