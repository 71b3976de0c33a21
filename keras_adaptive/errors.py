"""The errors that a study raises before any work is lost."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """An input that cannot be used.

    The message says what is wrong, what was expected and what to do about it. The
    command line prints it without a traceback and exits with status 2.
    """


StudyError = InputError
"""The same error by its earlier name."""


class MissingExtraError(ImportError):
    """A library of an optional extra is not installed."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns the end of an error message: the nearest known word, if one is near.

    Example:

    >>> did_you_mean("adm", ["adam", "sgd"])
    " Did you mean 'adam'?"
    """
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def counted(what: str, number: int) -> int:
    """Returns a count, if it is one.

    Args:
        what: What is counted, for the message.
        number: How many.

    Raises:
        StudyError: If it is not a whole number above 0.
    """
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise StudyError(f"{what} is {number!r}. Expected a whole number above 0.")
    return number


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
