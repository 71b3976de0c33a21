"""Shared parts of the command lines: options and exit statuses."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_adaptive.commands.signals import Terminated, orderly_termination
from keras_adaptive.errors import ClusterError, InputError, MissingExtraError
from keras_adaptive.terminal import say

if TYPE_CHECKING:
    from rich.console import Console

    from keras_adaptive.datasets.dataset import Dataset
    from keras_adaptive.study.execution.executors import Executor
    from keras_adaptive.study.results import Results
    from keras_adaptive.study.study import Study

LOST_CLUSTER, INTERRUPTED, TERMINATED = 3, 130, 143
Parse = Callable[[Sequence[str] | None, str | None], argparse.Namespace]


def exit_status(command: Callable[[], int]) -> int:
    """Runs a command and turns the errors that a user can fix into exit statuses.

    Args:
        command: Does the work and returns its exit status.

    Returns:
        That status; 2 for an input that cannot be used or for a library that is not
        installed; 3 if a cluster stops making runs; 130 after an interrupt from the
        keyboard; 143 after SIGTERM.
    """
    try:
        with orderly_termination():
            return command()
    except (InputError, MissingExtraError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return LOST_CLUSTER
    except Terminated:
        print("terminated", file=sys.stderr)
        return TERMINATED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


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
        The exit status: 0 for success, else as `exit_status` says.
    """

    def command() -> int:
        run(parse(argv, prog))
        return 0

    return exit_status(command)


def count(text: str) -> int:
    """Parses a whole number of at least one."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def add_names_option(
    parser: argparse.ArgumentParser, option: str, known: Iterable[str]
) -> None:
    """Adds an option that takes some of the known names, by default all of them."""
    names = list(known)
    parser.add_argument(
        option,
        nargs="+",
        choices=names,
        default=names,
        metavar="NAME",
        help=f"some of: {', '.join(names)} (default: all)",
    )


def add_output_option(
    parser: argparse.ArgumentParser, default: str, contents: str
) -> None:
    """Adds the option that names the folder for what the command writes.

    Args:
        parser: The parser of the command line.
        default: The folder, unless another is named.
        contents: What the command writes there, for the help.
    """
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(default),
        metavar="DIR",
        help=f"folder for {contents} (default: %(default)s)",
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say how a study is run, for `run_study`."""
    parser.add_argument(
        "--workers",
        type=count,
        metavar="N",
        help="train in N processes at the same time (default: in this process, one run "
        "after another, which gives the most reliable times); with --scheduler, the "
        "most tasks at the same time",
    )
    parser.add_argument(
        "--executor",
        choices=("local", "dask"),
        default="local",
        help="train on this machine or on a cluster of Dask (default: %(default)s)",
    )
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="the cluster's scheduler, such as tcp://10.0.0.1:8786",
    )
    parser.add_argument(
        "--runner",
        choices=("auto", "compiled", "fit"),
        default="auto",
        help="make many runs as one compiled program of JAX, or each by fit (default: "
        "what is faster)",
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="repeat runs that failed before"
    )


def show_data(data: Sequence[Dataset], console: Console) -> None:
    """Shows a line for each dataset, and what should be known of it."""
    for each in data:
        for line in (f"{each.describe()}; {each.source}", *each.remarks()):
            say(console, line)


def run_study(study: Study, options: argparse.Namespace, console: Console) -> Results:
    """Runs a study as the options of `add_run_options` say.

    Args:
        study: The study.
        options: The parsed command line.
        console: Where the progress is shown.

    Raises:
        InputError: If the options of the cluster do not fit together, or if nobody
            answers at its address.
    """
    with _executor(options) as executor:
        return study.run(executor, console, options.retry_failed, options.runner)


@contextmanager
def _executor(options: argparse.Namespace) -> Iterator[Executor | None]:
    """Opens what makes the runs; `None` for this process."""
    from keras_adaptive.study.execution.processes import Processes

    if (options.executor == "dask") != bool(options.scheduler):
        raise InputError(
            "Give both --executor dask and --scheduler ADDRESS, or neither of them."
        )
    if not options.scheduler:
        yield Processes(options.workers) if options.workers else None
        return
    from keras_adaptive.study.execution.cluster.dask_executor import DaskExecutor

    with DaskExecutor.connected(options.scheduler, options.workers) as executor:
        yield executor


def results_folder(study: Study, name: str, options: argparse.Namespace) -> Path:
    """Makes the folder for the results of a study, before any training.

    Args:
        study: The study; another one has another folder, the same one the same.
        name: The first part of the folder's name.
        options: The parsed command line.

    Raises:
        InputError: If it cannot be made, or if no file can be written there.
    """
    from keras_adaptive.study.reporting.output import file_name

    place = options.output / file_name(f"{name}-{study.identity}")
    for part in (".", "plots", "tables"):
        output_folder(place / part)
    return place


def output_folder(path: Path) -> Path:
    """Makes the folder for results that `--output` names.

    Args:
        path: The folder.

    Raises:
        InputError: If it cannot be made.
    """
    from keras_adaptive.study.reporting import output

    try:
        return output.output_folder(path)
    except InputError as error:
        raise InputError(f"{error} Name another with --output.") from error
