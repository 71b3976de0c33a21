"""The store's password is never told, and a store that is gone costs little time."""

import errno
import threading
import warnings
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from scripted import scripted

from keras_adaptive import cli
from keras_adaptive.errors import InputError
from keras_adaptive.study import Contender
from keras_adaptive.study.ledger import connection
from keras_adaptive.study.ledger.artifacts import Artifacts
from keras_adaptive.study.ledger.connection import (
    IMPATIENT,
    LONGEST_WAIT,
    answers_again,
    mask,
    quiet_mlflow,
    store_location,
)
from keras_adaptive.study.ledger.mlflow_ledger import Ledger

SECRET = "s3cr3t"


@pytest.fixture
def gone(monkeypatch):
    """The address of a server that nobody listens to, with a password in it."""
    uri = f"http://me:{SECRET}@127.0.0.1:9"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://me:a@runs.example/api", "http://***@runs.example/api"),
        ("see https://me@runs.example, now", "see https://***@runs.example, now"),
        (
            "postgresql+psycopg2://me:a@b:c/d'@host/db",
            "postgresql+psycopg2://***@host/db",
        ),
        ("two: a://b:c@d e://f:g@h", "two: a://***@d e://***@h"),
        (
            "mysql://host/db?user=me&password=abc&ssl=1",
            "mysql://host/db?user=me&password=***&ssl=1",
        ),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
        ("mail me@example.com", "mail me@example.com"),
    ],
)
def test_only_credentials_are_masked(text, masked):
    assert mask(text) == masked
    assert mask(ValueError(text)) == masked


def test_an_unusable_store_does_not_tell_its_password(gone, tmp_path):
    error = r"http://\*\*\*@127.0.0.1:9 cannot"
    with quiet_mlflow(), pytest.raises(InputError, match=error) as raised:
        Ledger("experiment", tmp_path)
    assert SECRET not in str(raised.value)
    assert raised.value.__suppress_context__ and raised.value.__cause__ is None


def test_files_are_tried_once_and_told_once_without_the_password(gone, tmp_path):
    artifacts = Artifacts("a1")
    with pytest.warns(UserWarning, match=r"takes no files.*\*\*\*@") as warned:
        for number in range(14):
            artifacts.attach(tmp_path / f"file {number}", "plots")
    (only,) = warned
    assert SECRET not in str(only.message) and "file 0" in str(only.message)


def test_the_place_of_the_runs_has_no_password(gone):
    assert store_location() == "http://***@127.0.0.1:9"


def test_the_failure_of_a_study_has_no_password(store):
    client = mlflow.MlflowClient()
    ledger = Ledger("experiment", store[0] / "spool")
    with pytest.raises(OSError), ledger.open("a study", {}):
        raise OSError(f"no route to https://me:{SECRET}@runs.example")
    failure = client.get_run(ledger.run_id).data.tags["failure"]
    assert failure == "OSError: no route to https://***@runs.example"


def test_the_ui_of_a_server_does_not_tell_the_password(gone, capsys):
    assert cli.main(["ui"]) == 2
    error = capsys.readouterr().err
    assert "http://***@127.0.0.1:9" in error and SECRET not in error


def test_the_ui_of_a_database_does_not_tell_the_password(monkeypatch, capsys):
    monkeypatch.setattr(cli.subprocess, "Popen", _Server)
    uri = f"postgresql://me:{SECRET}@127.0.0.1/runs"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert cli.main(["ui", "--port", "0"]) == 0
    shown = capsys.readouterr().out
    assert "postgresql://***@127.0.0.1/runs" in shown and SECRET not in shown


class _Server:
    pid = 2**22 + 1  # above all that Linux gives

    def __init__(self, command, env):
        assert SECRET not in " ".join(command)
        assert SECRET in env["MLFLOW_BACKEND_STORE_URI"]

    def wait(self):
        return 0


class Busy(BaseHTTPRequestHandler):
    """A server that answers every request with 503 and counts them."""

    requests = 0

    def do_GET(self):
        Busy.requests += 1
        self.send_response(503)
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *arguments):
        pass


def test_a_busy_server_is_asked_once(monkeypatch, tmp_path):
    monkeypatch.setattr(Busy, "requests", 0)
    with HTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(
            "MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}"
        )
        artifacts = Artifacts("a1")
        with pytest.warns(UserWarning, match="503"):
            for number in range(14):
                artifacts.attach(tmp_path / f"file {number}")
        server.shutdown()
    assert Busy.requests == 1


def test_no_file_is_tried_if_the_store_was_gone_before(gone, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Artifacts("a1", usable=False).attach(tmp_path / "file")


@pytest.mark.parametrize("name", IMPATIENT)
@pytest.mark.parametrize("given", [None, "7"])
def test_mlflow_gives_up_early_unless_told_otherwise(monkeypatch, name, given):
    monkeypatch.delenv(name, raising=False)
    if given:
        monkeypatch.setenv(name, given)
    with quiet_mlflow():
        assert connection.os.environ[name] == (given or IMPATIENT[name])
    assert connection.os.environ.get(name) == given


class Clock:
    """A clock that only waiting and requests move."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.mark.parametrize("seconds_per_request", [0.0, 3.0, 30.0])
def test_the_wait_is_bounded_and_not_silent(monkeypatch, seconds_per_request):
    clock = Clock()
    monkeypatch.setattr(connection, "time", clock)
    since = clock.now
    told = []

    class Client:
        def get_experiment(self, _):
            clock.now += seconds_per_request
            raise MlflowException(f"no route to http://me:{SECRET}@host")

    clock.now += seconds_per_request
    failure = MlflowException(f"no route to http://me:{SECRET}@host")
    with quiet_mlflow():
        answered = answers_again(
            Client(), "1", failure, since, lambda line: told.append((clock.now, line))
        )
    assert not answered
    assert clock.now - since <= LONGEST_WAIT
    assert "MLflow has failed: no route to http://***@host" in told[0][1]
    assert not [line for _, line in told if SECRET in line]
    times = [since, *(at for at, _ in told), clock.now]
    gaps = [later - one for one, later in zip(times, times[1:], strict=False)]
    assert max(gaps) <= max(seconds_per_request, 14)


@pytest.fixture
def records(workload, trial_of):
    made = scripted(trial_of(workload, Contender("keras/sgd", [0.1]), key="a"))
    return [replace(made, key=key) for key in "abc"]


class Flaky:
    """Lets the next requests of every client fail, and counts the requests.

    With the name of a method, only requests by that method fail.
    """

    def __init__(self, monkeypatch):
        self.failures, self.requests, self.only = 0, 0, ""
        methods = "create_run get_experiment log_batch set_terminated search_runs"
        for name in methods.split():
            made = getattr(mlflow.MlflowClient, name)
            monkeypatch.setattr(mlflow.MlflowClient, name, self._wrapped(name, made))

    def _wrapped(self, name, method):
        def request(*arguments, **options):
            self.requests += 1
            if self.failures and self.only in ("", name):
                self.failures -= 1
                raise MlflowException(f"no route to http://me:{SECRET}@host")
            return method(*arguments, **options)

        return request


@pytest.fixture
def flaky(monkeypatch):
    monkeypatch.setattr(connection, "LONGEST_WAIT", 0.0)
    return Flaky(monkeypatch)


def test_a_store_that_goes_away_is_told_at_once_and_left_alone(store, flaky, records):
    told = []
    ledger = Ledger("experiment", store[0] / "spool", told.append)
    with ledger.open("a study", {}):
        ledger.write(records[0])
        flaky.failures = 1_000
        before = flaky.requests
        ledger.write(records[1])
        assert flaky.requests == before + 2  # the run, then one check
        (line,) = told
        assert "cannot be used any more: no route to http://***@host" in line
        assert str(store[0] / "spool" / "experiment") in line
        ledger.write(records[2])
    assert flaky.requests == before + 2
    assert len(told) == 1 and not ledger.usable
    assert [file.stem for file in ledger.spooled] == ["b", "c"]

    flaky.failures = 0
    again = Ledger("experiment", store[0] / "spool", told.append)
    with again.open("a study", {}):
        assert sorted(again) == ["a", "b", "c"]
    assert again.spooled == [] and len(told) == 1


def test_a_store_that_comes_back_gets_each_run_once(store, flaky, records):
    ledger = Ledger("experiment", store[0] / "spool")
    made = store[1].get_experiment_by_name("experiment").experiment_id
    with ledger.open("a study", {}):
        flaky.failures, flaky.only = 1, "log_batch"
        ledger.write(records[0])
        ledger.write(records[1])
    assert ledger.usable and ledger.spooled == [] and not flaky.failures
    runs = store[1].search_runs([made], "tags.phase != 'study'")
    assert sorted(run.data.tags["key"] for run in runs) == ["a", "b"]
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_a_store_that_is_gone_at_the_end_is_told(store, flaky, records):
    told = []
    ledger = Ledger("experiment", store[0] / "spool", told.append)
    with ledger.open("a study", {}):
        ledger.write(records[0])
        flaky.failures = 1_000
        before = flaky.requests
    assert flaky.requests == before + 1
    (line,) = told
    assert "no route to http://***@host" in line and not ledger.usable


def test_a_spool_that_cannot_be_made_is_an_error_before_training(store):
    (store[0] / "spool").write_text("in the way")
    ledger = Ledger("experiment", store[0] / "spool")
    with (
        pytest.raises(InputError, match="spool/experiment cannot be used.*'spool'"),
        ledger.open("a study", {}),
    ):
        raise AssertionError("training")


def test_the_check_of_the_spool_leaves_nothing_behind(store):
    (store[0] / "mine").mkdir()
    for place in ("mine", "new"):
        with Ledger("experiment", store[0] / place).open("a study", {}):
            pass
    assert list((store[0] / "mine").iterdir()) == []
    assert not (store[0] / "new").exists()


def test_a_full_disk_says_what_to_do(store, monkeypatch, flaky, records):
    full = OSError(errno.ENOSPC, "No space left on device")
    ledger = Ledger("experiment", store[0] / "spool")
    with (
        pytest.raises(InputError, match="No space left on device.*Free space"),
        ledger.open("a study", {}),
    ):
        flaky.failures = 1_000
        monkeypatch.setattr(Path, "write_text", _raises(full))
        ledger.write(records[0])


def _raises(error):
    def function(*arguments, **options):
        raise error

    return function


def test_a_database_that_is_destroyed_is_told_in_one_line(
    store, monkeypatch, records, capfd
):
    monkeypatch.setattr(connection, "LONGEST_WAIT", 0.0)
    told = []
    ledger = Ledger("experiment", store[0] / "spool", told.append)
    with ledger.open("a study", {}):
        ledger.write(records[0])
        (store[0] / "mlflow.db").write_bytes(b"x" * 5_000)
        ledger.write(records[1])
        ledger.write(records[2])
    (line,) = told
    assert "file is not a database. Further runs wait" in line and "\n" not in line
    assert [file.stem for file in ledger.spooled] == ["b", "c"]
    with pytest.raises(InputError, match="cannot be used: .*not a database. Check"):
        Ledger("experiment", store[0] / "spool")
    assert "Traceback" not in capfd.readouterr().err
