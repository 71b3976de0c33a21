"""No wait for the store is silent: not a store that hangs, nor one that is slow."""

import threading

import mlflow
import pytest
from scripted import scripted

from keras_adaptive.errors import InputError
from keras_adaptive.study import Contender
from keras_adaptive.study.ledger import mlflow_ledger, waiting
from keras_adaptive.study.ledger.artifacts import Artifacts
from keras_adaptive.study.ledger.mlflow_ledger import Ledger
from keras_adaptive.study.ledger.waiting import Teller

FAILSAFE = 60.0


class Clock:
    """A clock that only waiting moves, and an event that is set at a given time.

    Args:
        end: The time at which the block ends.
        lines: Lines that the block tells, by their times.
    """

    def __init__(self, end, lines=()):
        self.now, self._end, self._lines = 0.0, end, dict(lines)
        self.tell = None

    def monotonic(self):
        return self.now

    def wait(self, seconds):
        until = self.now + seconds
        for at in sorted(self._lines):
            if at < min(until, self._end):
                self.now = at
                self.tell(self._lines.pop(at))
        self.now = min(until, self._end)
        return self.now == self._end


@pytest.mark.parametrize(
    ("end", "lines", "expected"),
    [
        (4.9, {}, []),
        (12, {}, [(5, "5 s"), (10, "10 s")]),
        (12, {3: "note"}, [(3, "note"), (8, "8 s")]),
        (8.1, {1: "a", 2: "b", 3: "c"}, [(1, "a"), (2, "b"), (3, "c"), (8, "8 s")]),
    ],
)
def test_a_line_comes_after_five_seconds_of_silence(monkeypatch, end, lines, expected):
    clock = Clock(end, lines)
    monkeypatch.setattr(waiting, "time", clock)
    monkeypatch.setattr(waiting, "LONGEST_SILENCE", 5.0)
    told = []
    clock.tell = Teller(lambda line: told.append((clock.now, line.split("… ")[-1])))
    clock.tell._break_silence(clock)
    assert told == expected


def test_the_line_names_the_store_without_its_password(monkeypatch, said):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:s3cr3t@127.0.0.1:9")
    with Teller(said).waiting():
        said.wait()
    assert "MLflow's store at http://***@127.0.0.1:9 … " in said.lines[0]


def test_a_wait_inside_of_another_one_is_told_once(said):
    teller = Teller(said)
    with teller.waiting():
        before = threading.active_count()
        with teller.waiting():
            assert threading.active_count() == before
        said.wait()


class Said:
    """Takes lines, and lets others wait for one."""

    def __init__(self):
        self.lines = []
        self._event = threading.Event()

    def __call__(self, line):
        self.lines.append(line)
        if line.startswith("Waiting for"):
            self._event.set()

    def wait(self):
        self._event.clear()
        assert self._event.wait(FAILSAFE), self.lines


@pytest.fixture
def said(monkeypatch, patient):
    monkeypatch.setattr(waiting, "LONGEST_SILENCE", 0.01)
    return Said()


REQUESTS = [
    "get_experiment_by_name",
    "create_experiment",
    "set_experiment_tag",
    "get_experiment",
    "create_run",
    "search_runs",
    "log_batch",
    "log_inputs",
    "set_terminated",
    "delete_run",
    "delete_experiment_tag",
    "log_artifact",
]


def test_no_request_hangs_in_silence(store, monkeypatch, said, workload, trial_of):
    """Each request is answered only when the wait for it has been told."""
    main, answered = threading.main_thread(), set()

    def hanging(name, made):
        def request(*arguments, **options):
            if threading.current_thread() is main:  # the heartbeat waits by itself
                said.wait()
                answered.add(name)
            return made(*arguments, **options)

        return request

    for name in REQUESTS:
        made = getattr(mlflow.MlflowClient, name)
        monkeypatch.setattr(mlflow.MlflowClient, name, hanging(name, made))
    record = scripted(trial_of(workload, Contender("keras/sgd", [0.1]), key="a"))
    with Ledger("experiment", store[0] / "spool", said).open("a study", {}) as ledger:
        ledger.write(record)
    again = Ledger("experiment", store[0] / "spool", said)
    with again.open("a study", {}):
        assert again["a"].key == "a"
        again.forget("a")
    Artifacts(ledger.run_id, tell=said).attach(store[0] / "mlflow.db")
    assert answered == set(REQUESTS)


def test_making_the_database_is_told(tmp_path, monkeypatch, said):
    """So is a database that is locked, which MLflow asks many times."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(mlflow_ledger, "make_store", lambda uri: said.wait() or stop())
    with pytest.raises(InputError, match="cannot be used: no disk"):
        Ledger("experiment", tmp_path / "spool", said)


def stop():
    raise OSError("no disk")
