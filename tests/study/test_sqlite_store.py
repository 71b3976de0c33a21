"""MLflow's database appears whole, whenever its making is interrupted."""

import itertools

import mlflow
import pytest
import sqlalchemy
from mlflow.store.db import utils

from keras_adaptive.errors import InputError
from keras_adaptive.study.ledger.connection import quiet_mlflow
from keras_adaptive.study.ledger.mlflow_ledger import Ledger
from keras_adaptive.study.ledger.sqlite_store import make_store


@pytest.fixture
def uri(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with quiet_mlflow():
        yield uri


@pytest.fixture
def interrupted(monkeypatch):
    """Interrupts MLflow between its tables."""

    def upgrade(engine):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(utils, "_upgrade_db", upgrade)
        yield patch


def test_an_interrupt_leaves_nothing(uri, tmp_path, interrupted):
    with pytest.raises(KeyboardInterrupt):
        Ledger("x", tmp_path / "spool")
    assert list(tmp_path.glob("mlflow.db*")) == []
    interrupted.undo()
    with Ledger("x", tmp_path / "spool").open("a study", {}):
        pass
    assert [file.name for file in tmp_path.glob("mlflow.db*")] == ["mlflow.db"]
    assert mlflow.MlflowClient().get_experiment_by_name("x") is not None


def test_a_half_made_database_is_recognized(uri, tmp_path):
    versions = itertools.count(1)

    def interrupt(connection, cursor, statement, *others):
        if statement.startswith("UPDATE alembic_version") and next(versions) == 5:
            raise KeyboardInterrupt

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", interrupt)
    with pytest.raises(KeyboardInterrupt):
        mlflow.MlflowClient(uri).search_experiments()
    sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", interrupt)
    with pytest.raises(InputError, match=r"mlflow\.db is half-made.*no runs. Delete"):
        Ledger("x", tmp_path / "spool")


def test_a_whole_database_stays(store, tmp_path):
    before = (tmp_path / "mlflow.db").read_bytes()
    make_store(f"sqlite:///{tmp_path}/mlflow.db")
    assert (tmp_path / "mlflow.db").read_bytes() == before


@pytest.mark.parametrize(
    "uri", ["http://localhost:1", "sqlite://", "sqlite:///:memory:", "mlruns"]
)
def test_other_stores_are_left_alone(uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_store(uri)
    assert list(tmp_path.iterdir()) == []
