"""What the command lines of all experiments have in common."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_adaptive.errors import StudyError, needs_extra
from keras_adaptive.study.execution.executors import InProcess, Processes

with needs_extra("study"):
    from rich.console import Console

if TYPE_CHECKING:
    from keras_adaptive.study.results import Results
    from keras_adaptive.study.study import Study

INTERRUPTED = 130
Parse = Callable[[Sequence[str] | None, str | None], argparse.Namespace]


def main(
    parse: Parse,
    run: Callable[[argparse.Namespace], Any],
    argv: Sequence[str] | None,
    prog: str | None,
) -> int:
    """Runs an experiment from the command line.

    Args:
        parse: Parses arguments, with a name of the command for its help.
        run: Runs the experiment with the parsed options.
        argv: The arguments; `None` for those of the process.
        prog: Name of the command; `None` for that of the process.

    Returns:
        The exit status: 0 for success, 2 for an input that cannot be used, 130 after
        an interrupt from the keyboard.
    """
    try:
        run(parse(argv, prog))
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def count(text: str) -> int:
    """Parses a whole number of at least one."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def positive(text: str) -> float:
    """Parses a positive, finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say how a study is run, for `run_study`."""
    parser.add_argument(
        "--workers",
        type=count,
        metavar="N",
        help="processes that train at the same time (default: this one alone, which "
        "times best)",
    )
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="make runs again that failed before",
    )


def run_study(study: Study, options: argparse.Namespace, console: Console) -> Results:
    """Runs a study as the options of `add_run_options` say.

    Args:
        study: The study.
        options: The parsed command line.
        console: Where the progress is shown.
    """
    executor = Processes(options.workers) if options.workers else InProcess()
    return study.run(executor, console, options.retry_failed)


def output_folder(path: Path) -> Path:
    """Makes a folder for results.

    Args:
        path: The folder.

    Raises:
        StudyError: If it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(
            f"The folder {path} cannot be made ({error}). Name another with --output."
        ) from error
    return path
