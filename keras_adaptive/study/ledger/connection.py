"""The connection to MLflow's store: how it is named, kept quiet and found unusable."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from keras_adaptive.errors import InputError, needs_extra

with needs_extra("study"):
    import mlflow
    from mlflow.exceptions import MlflowException

NOISY_LOGGERS = ("mlflow", "alembic")
NO_LINKS = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"
UNREACHABLE = (MlflowException, OSError)

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


def store_location() -> str:
    """Returns where MLflow keeps the runs, in words and without a password."""
    uri = mask(mlflow.get_tracking_uri())
    return f"{uri} (in {os.getcwd()})" if uri.startswith("sqlite:///mlflow") else uri


@contextmanager
def usable_store() -> Iterator[None]:
    """Replaces the error of a store by one that says what to do.

    Raises:
        InputError: If MLflow's store cannot be used. The exception of MLflow is not
            shown below it, since it may tell the password.
    """
    try:
        yield
    except UNREACHABLE as error:
        raise InputError(
            f"MLflow's store at {mask(mlflow.get_tracking_uri())} cannot be used: "
            f"{mask(error)}. Check MLFLOW_TRACKING_URI, or unset it to keep the runs "
            "in the current folder."
        ) from None


@contextmanager
def quiet_mlflow() -> Iterator[None]:
    """Silences MLflow's notes about its database and its links to every run."""
    loggers = [logging.getLogger(name) for name in NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    links = os.environ.get(NO_LINKS)
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    os.environ[NO_LINKS] = "true"
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        del os.environ[NO_LINKS]
        if links is not None:
            os.environ[NO_LINKS] = links
