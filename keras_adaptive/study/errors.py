"""The errors that a study raises before any work is lost."""

from collections.abc import Iterator
from contextlib import contextmanager


class StudyError(ValueError):
    """An input that a study cannot use, said in plain words.

    The message says what was wrong, what was expected and what to do about it. The
    command line prints it without a traceback and exits with status 2.
    """


class MissingExtraError(ImportError):
    """A library of an optional extra is not installed."""


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turns a missing optional library into an error that names the extra.

    Args:
        extra: Name of the extra that brings the libraries imported in the block.

    Raises:
        MissingExtraError: If an import in the block finds no such library.

    Example:

    >>> with needs_extra("study"):
    ...     import mlflow
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"The library '{error.name}' is not installed and is needed here. "
            f"Install it with: pip install 'keras-adaptive[{extra}]'"
        ) from error
