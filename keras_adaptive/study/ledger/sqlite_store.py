"""MLflow's SQLite database: it appears whole, and one that is not is recognized.

MLflow makes its tables in many steps, which take seconds. A process that ends in
between would leave a database that MLflow can neither use nor complete.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path

from keras_adaptive.errors import InputError, needs_extra

with needs_extra("study"):
    import sqlalchemy
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore


def make_store(uri: str) -> None:
    """Makes MLflow's database if it is an SQLite file that does not exist.

    It is made in a folder beside its place and moved there when it is whole. Of several
    processes that make it at once, the first one's stays.

    Args:
        uri: MLflow's tracking URI.

    Raises:
        InputError: If the file is a database that was left half-made.
    """
    file = _file_of(uri)
    if file is None:
        return
    if file.exists() and file.stat().st_size:
        _refuse_half_made(file)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f"{file.name}-", dir=file.parent, ignore_cleanup_errors=True
    ) as folder:
        part = Path(folder, "made.db")
        _make(part)
        if file.exists() and not file.stat().st_size:
            file.unlink()
        _move(part, file)


def _file_of(uri: str) -> Path | None:
    """Returns the file of an SQLite database, or `None` for any other store."""
    if not uri.startswith("sqlite:"):
        return None
    with suppress(sqlalchemy.exc.ArgumentError):
        url = sqlalchemy.engine.make_url(uri)
        if url.database and url.database != ":memory:" and not url.query:
            return Path(url.database)
    return None


def _make(file: Path) -> None:
    """Has MLflow make its tables in a file, or checks those that it has made."""
    artifacts = DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    SqlAlchemyStore(f"sqlite:///{file}", artifacts).engine.dispose()


def _move(part: Path, file: Path) -> None:
    """Moves a file to its place unless there is one already."""
    try:
        os.link(part, file)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        if not file.exists():
            os.replace(part, file)


def _refuse_half_made(file: Path) -> None:
    """Raises an error if MLflow was interrupted while it made a database."""
    try:
        if _has_runs(file):
            return
    except sqlite3.Error:  # locked or corrupt, which MLflow says itself
        return
    try:
        _make(file)
    except Exception as error:
        raise InputError(
            f"MLflow's database {file} is half-made: a process was ended while MLflow "
            "was making it. It holds no runs. Delete the file and start again."
        ) from error


def _has_runs(file: Path) -> bool:
    with closing(
        sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
    ) as db:
        tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        if ("runs",) not in tables.fetchall():
            return False
        return db.execute("SELECT 1 FROM runs LIMIT 1").fetchone() is not None
