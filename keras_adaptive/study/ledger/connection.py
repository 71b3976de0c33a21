"""The connection to MLflow's store: how it is named, kept quiet and found unusable."""

from __future__ import annotations

import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from keras_adaptive.errors import InputError, needs_extra

with needs_extra("study"):
    import mlflow
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT
    from mlflow.exceptions import MlflowException

NOISY_LOGGERS = {
    "mlflow": logging.WARNING,
    "mlflow.store.db.utils": logging.CRITICAL,  # the ledger tells its errors itself
    "alembic": logging.WARNING,
}
"""Loggers of MLflow, and from which level on a study lets them speak."""

NO_LINKS = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"
UNREACHABLE = (MlflowException, OSError)

IMPATIENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""What MLflow's client does unless the environment says otherwise."""

REFUSAL = "INVALID_PARAMETER_VALUE"

LONGEST_WAIT = 60.0
SECONDS_BETWEEN_TRIES = 2.0
SECONDS_BETWEEN_NOTES = 4.0

Tell = Callable[[str], None]

CREDENTIALS = re.compile(r"(?<=://)\S*@")
SECRET_OPTION = re.compile(r"(?i)(?<=[?&])(\w*(?:password|passwd|pwd|token)=)[^&\s]*")


def mask(text: object) -> str:
    """Hides the user, password and token of every URL in a text.

    Everything up to the last `@` is hidden, since a password may hold any character.

    Args:
        text: A text, or an exception for its message.

    Example:
        >>> mask("API request to https://me:secret@runs.example:80/api failed")
        'API request to https://***@runs.example:80/api failed'
    """
    return SECRET_OPTION.sub(r"\1***", CREDENTIALS.sub("***@", str(text)))


def reason(error: Exception) -> str:
    """Returns why MLflow has failed, without a password and without the SQL below it.

    Example:
        >>> reason(OSError("database is locked" + chr(10) + "[SQL: ...]"))
        'database is locked'
    """
    return mask(error).partition("\n")[0]


def store_location() -> str:
    """Returns where MLflow keeps the runs, in words and without a password."""
    uri = mask(mlflow.get_tracking_uri())
    return f"{uri} (in {os.getcwd()})" if uri.startswith("sqlite:///mlflow") else uri


def is_refusal(error: Exception) -> bool:
    """Says whether MLflow works, but does not take what it was given."""
    return isinstance(error, MlflowException) and error.error_code == REFUSAL


@contextmanager
def usable_store() -> Iterator[None]:
    """Replaces the error of a store by one that says what to do.

    Raises:
        InputError: If MLflow's store cannot be used, or if it refuses what it is
            given. The exception of MLflow is not shown below it, since it may tell the
            password.
    """
    try:
        yield
    except UNREACHABLE as error:
        if is_refusal(error):
            raise InputError(
                f"MLflow refuses a name or a value of the study: {reason(error)}. "
                "Choose another one."
            ) from None
        raise InputError(
            f"MLflow's store at {mask(mlflow.get_tracking_uri())} cannot be used: "
            f"{reason(error)}. Check MLFLOW_TRACKING_URI, or unset it to keep the runs "
            "in the current folder."
        ) from None


@contextmanager
def quiet_mlflow() -> Iterator[None]:
    """Silences MLflow's notes and links, and has it give up early.

    MLflow would try each request for four minutes. The ledger tries again by itself,
    see `answers_again`. Times that the environment sets are kept.
    """
    loggers = [logging.getLogger(name) for name in NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    variables = {**IMPATIENT, **os.environ, NO_LINKS: "true"}
    before = {name: os.environ.get(name) for name in (*IMPATIENT, NO_LINKS)}
    for logger in loggers:
        logger.setLevel(NOISY_LOGGERS[logger.name])
    os.environ.update({name: variables[name] for name in before})
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


def answers_again(
    client: mlflow.MlflowClient,
    experiment_id: str,
    failure: Exception,
    since: float,
    tell: Tell,
) -> bool:
    """Waits for a store that has failed, and says whether it answers.

    No request begins that could end later than `LONGEST_WAIT` seconds after the start
    of the one that failed.

    Args:
        client: The client of MLflow.
        experiment_id: MLflow's id of an experiment, which is read.
        failure: The exception of the request that failed.
        since: The start of that request, as `time.monotonic` tells it.
        tell: Takes a line about the waiting.
    """
    note, noted = f"MLflow has failed: {reason(failure)}. Trying it again", -math.inf
    end = since + LONGEST_WAIT
    last_start = end - MLFLOW_HTTP_REQUEST_TIMEOUT.get()
    while True:
        now = time.monotonic()
        if now < end and now - noted >= SECONDS_BETWEEN_NOTES:
            tell(f"{note} for up to {end - now:.0f} s.")
            note, noted = "Still trying MLflow", now
        with suppress(*UNREACHABLE):
            client.get_experiment(experiment_id)
            return True
        if time.monotonic() + SECONDS_BETWEEN_TRIES > last_start:
            return False
        time.sleep(SECONDS_BETWEEN_TRIES)
