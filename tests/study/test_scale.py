"""Twice as many runs cost twice as much: operations are counted, not seconds."""

import cProfile
import gc
import io
import pstats
import tracemalloc
from contextlib import nullcontext
from types import FunctionType

import pytest
from made_up import REFERENCE, made_up_record, made_up_study
from mlflow import MlflowClient
from rich.console import Console
from scripted import Scripted

from keras_adaptive.study import Contender, Protocol
from keras_adaptive.study.execution.planning import Plan
from keras_adaptive.study.execution.prepared_workload import PreparedWorkload
from keras_adaptive.study.execution.schedule import Schedule
from keras_adaptive.study.ledger import mlflow_ledger
from keras_adaptive.study.ledger.mlflow_ledger import Ledger

FEW = 20
TWICE = 2.1
"""Twice, and some more for what does not depend on the number of runs."""


class Kept(dict):
    """Keeps the records of a schedule in memory."""

    def waiting(self):
        return nullcontext()

    def write(self, record):
        self[record.key] = record


def calls(function, *arguments):
    """How many functions are called within a call."""
    profile = cProfile.Profile()
    profile.runcall(function, *arguments)
    return pstats.Stats(profile, stream=io.StringIO()).total_calls


def at_twice(cost):
    """By how much a cost grows from a number of runs to twice as many."""
    return cost(2 * FEW) / cost(FEW)


def test_a_schedule_looks_at_each_run_equally_often(workload, monkeypatch):
    prepared = PreparedWorkload.prepare(workload, None)
    contenders = [Contender(each, [0.01, 0.1]) for each in ("sgd", "adam")]
    looked, trial = [], Plan._trial
    monkeypatch.setattr(
        Plan, "_trial", lambda *which: looked.append(which) or trial(*which)
    )

    def looks(seeds):
        looked.clear()
        protocol = Protocol(
            tuning_trials=2,
            widening_trials=0,
            tuning_seeds=seeds,
            seeds=seeds,
            reference="sgd",
        )
        plans = [Plan(prepared, each, protocol) for each in contenders]
        schedule = Schedule(plans, Kept())
        schedule.finish(Scripted(), Console(file=io.StringIO()))
        assert schedule.done == schedule.total == len(schedule.records) == 6 * seeds
        return len(looked)

    assert looks(2 * FEW) == 2 * looks(FEW)


@pytest.fixture
def requests(monkeypatch):
    """The names of the requests to MLflow."""
    made, inside = [], []

    def counted(name, method):
        def request(*arguments, **options):
            if not inside:
                made.append(name)
            inside.append(name)
            try:
                return method(*arguments, **options)
            finally:
                inside.pop()

        return request

    for name, method in vars(MlflowClient).items():
        if isinstance(method, FunctionType) and not name.startswith("_"):
            monkeypatch.setattr(MlflowClient, name, counted(name, method))
    return made


def ledger_with(store, count):
    """A ledger of a new process, and in its store so many runs."""
    ledger = Ledger(f"experiment {count}", store[0] / "spool")
    with ledger.open("a study", {}):
        for seed in range(count):
            ledger.write(made_up_record("adam", seed))
    return Ledger(f"experiment {count}", store[0] / "spool")


def resume(ledger):
    with ledger.open("a study", {}):
        return list(ledger.values())


def test_a_run_takes_five_requests(store, requests):
    ledger = Ledger("experiment", store[0] / "spool")
    with ledger.open("a study", {}):
        requests.clear()
        ledger.write(made_up_record("adam", 0))
        assert requests == [
            "create_run",
            "log_batch",
            "log_inputs",
            "get_experiment",
            "set_terminated",
        ]


def test_resuming_takes_a_request_a_page(store, requests, monkeypatch):
    def asked(count):
        ledger = ledger_with(store, count)
        requests.clear()
        assert len(resume(ledger)) == count
        return len(requests)

    assert asked(4) == asked(8)
    monkeypatch.setattr(mlflow_ledger, "RUNS_A_PAGE", 3)
    assert asked(7) - asked(1) == 2


def test_resuming_twice_as_many_runs_does_twice_as_much(store):
    def called(count):
        return calls(resume, ledger_with(store, count))

    assert at_twice(called) < TWICE


def test_twice_as_many_runs_take_twice_the_memory(store):
    def peak(count):
        ledger = ledger_with(store, count)
        gc.collect()
        gc.disable()  # it would collect at other times for another count
        tracemalloc.start()
        try:
            resume(ledger)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            gc.enable()

    peak(2)  # imports, and statements that SQLAlchemy keeps
    assert at_twice(peak) < TWICE


def analysed(results):
    """Everything that follows from the records, but figures and report."""
    return (
        results.runs,
        results.curves,
        results.verdicts(),
        results.recommendation("digits"),
    )


def test_twice_as_many_seeds_are_judged_by_twice_as_much():
    def called(seeds):
        contenders = {REFERENCE: {}, "adam": {"accuracy": 0.92}}
        return calls(
            analysed, made_up_study(contenders, seeds=seeds, tuning_seeds=seeds)
        )

    assert at_twice(called) < TWICE


def test_twice_as_many_workloads_are_judged_by_twice_as_much():
    def called(count):
        names = ["digits", *(f"workload {number}" for number in range(count - 1))]
        contenders = {REFERENCE: {}, "adam": {"accuracy": 0.92}}
        return calls(analysed, made_up_study(contenders, names, 6, 6))

    assert at_twice(called) < TWICE
