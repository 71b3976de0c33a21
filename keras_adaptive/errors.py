"""Errors that name the wrong input, and the helpers that phrase them."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from keras_adaptive.plain_numbers import plain

LONGEST_NAME = 250
"""MLflow and file systems take names of this length, and not much longer ones."""


class InputError(ValueError):
    """An input that a study, a dataset or a command cannot use.

    The message says what is wrong, what was expected and how to fix it. The command
    line prints it without a traceback and exits with status 2.
    """


StudyError = InputError
"""The same error by its earlier name."""


class ClusterError(RuntimeError):
    """A cluster makes no more runs. The finished ones are kept.

    The message says what stopped and how to go on. The command line prints it without a
    traceback and exits with status 3.
    """


class MissingExtraError(ImportError):
    """A library of an optional extra is not installed."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns the end of an error message that suggests the closest known word.

    Args:
        word: The word that is not known.
        known: The words that are.

    Returns:
        The suggestion with a leading space; an empty string if no word is close.

    Example:
        >>> did_you_mean("adm", ["adam", "sgd"])
        " Did you mean 'adam'?"
    """
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def counted(what: str, number: int) -> int:
    """Returns a count after checking that it is a positive whole number.

    Args:
        what: What is counted, for the message.
        number: The count, of any integer type.

    Raises:
        InputError: If the count is not a whole number above 0.
    """
    count = plain(number)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InputError(f"{what} is {number!r}. Expected a whole number above 0.")
    return count


def named(what: str, name: str) -> str:
    """Returns a name after checking that tables, files and MLflow can hold it.

    Args:
        what: What is named, for the message.
        name: The name.

    Raises:
        InputError: If the name is no text, is empty, or is longer than 250 characters.

    Example:
        >>> named("A workload", "wine")
        'wine'
    """
    problem = ""
    if not isinstance(name, str):
        problem = f"is called {name!r}, which is no text"
    elif not name.strip():
        problem = "has an empty name"
    elif len(name) > LONGEST_NAME:
        problem = f"is called {name[:20]!r}…, which has {len(name)} characters"
    elif any(0xD800 <= ord(character) <= 0xDFFF for character in name):
        problem = f"is called {name!r}, which is not Unicode"
    if problem:
        raise InputError(
            f"{what} {problem}. Expected a text of at most {LONGEST_NAME} characters."
        )
    return name


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Replaces the error of a missing optional library by one that names its extra.

    Args:
        extra: The extra that installs the libraries imported in the block.

    Raises:
        MissingExtraError: If a library imported in the block is not installed.

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
