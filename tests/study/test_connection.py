"""The store's password is never told, and a store that is gone costs little time."""

import mlflow
import pytest

from keras_adaptive import cli
from keras_adaptive.errors import InputError
from keras_adaptive.study.ledger.connection import mask, store_location
from keras_adaptive.study.ledger.mlflow_ledger import Ledger, attach

SECRET = "s3cr3t"


@pytest.fixture
def gone(store, monkeypatch):
    """The address of a server that nobody listens to, with a password in it."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
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
    with pytest.raises(InputError, match=r"http://\*\*\*@127.0.0.1:9 cannot") as raised:
        Ledger("experiment", tmp_path)
    assert SECRET not in str(raised.value)
    assert raised.value.__suppress_context__ and raised.value.__cause__ is None


def test_a_file_that_is_not_attached_does_not_tell_the_password(gone, tmp_path):
    with pytest.warns(UserWarning, match=r"could not be reached.*\*\*\*@") as warned:
        attach("a1", tmp_path / "file")
    assert not [each for each in warned if SECRET in str(each.message)]


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
    def __init__(self, command):
        assert SECRET in " ".join(command)

    def wait(self):
        return 0
