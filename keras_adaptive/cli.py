"""The command `keras-adaptive`: compare optimizers, run an experiment, see its runs."""

import argparse
import importlib
import os
import pkgutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any

from keras_adaptive.commands.options import exit_status
from keras_adaptive.commands.signals import Terminated
from keras_adaptive.errors import InputError, did_you_mean, needs_extra

LOOPBACK = "127.0.0.1"
SECONDS_TO_END = 5
"""The time that processes have to end by themselves before they are killed."""

BACKEND_STORE = "MLFLOW_BACKEND_STORE_URI"
"""The environment variable that tells MLflow's server where the runs are."""

RUNS_JOBS = "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"
"""The environment variable that says whether MLflow's server runs jobs, too."""

EXPERIMENTS = "keras_adaptive.experiments"


class DeferredParser(argparse.ArgumentParser):
    """Parses a command whose options are declared only when it is called.

    The defaults of these options come from the study, whose libraries take seconds to
    import.

    Args:
        declare: Adds the options to the parser; `None` if there is nothing to defer.
        arguments: The arguments of `argparse.ArgumentParser`.
    """

    def __init__(
        self,
        *,
        declare: Callable[[argparse.ArgumentParser], None] | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self._declare = declare

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Declares the options, then parses as `argparse` does."""
        declare, self._declare = self._declare, None
        if declare is not None:
            declare(self)
        return super().parse_known_args(args, namespace)


def experiments() -> ModuleType:
    """Returns the package of the experiments.

    Raises:
        InputError: If a clone was installed before they were part of the package.
    """
    try:
        return importlib.import_module(EXPERIMENTS)
    except ModuleNotFoundError as error:
        raise InputError(
            "The experiments are not installed. In a clone of the repository, run "
            "'pip install -e .' again."
        ) from error


def experiment_names() -> list[str]:
    """Returns the names of the experiments that can be run."""
    return sorted(
        module.name for module in pkgutil.iter_modules(experiments().__path__)
    )


def run_experiment(name: str, arguments: Sequence[str]) -> int:
    """Runs an experiment.

    Args:
        name: Name of a module of `keras_adaptive.experiments`.
        arguments: The experiment's own command line.

    Returns:
        The exit status.

    Raises:
        InputError: If there is no such experiment.
    """
    known = experiment_names()
    if name not in known:
        raise InputError(
            f"There is no experiment {name!r}. Known experiments: {', '.join(known)}."
            + did_you_mean(name, known)
        )
    with needs_extra("study"):
        experiment = importlib.import_module(f"{EXPERIMENTS}.{name}")
    status: int = experiment.main(arguments, prog=f"keras-adaptive run {name}")
    return status


def run_comparison(options: argparse.Namespace) -> int:
    """Compares optimizers on the user's model and data.

    Args:
        options: The parsed command line.

    Returns:
        The exit status.
    """
    from keras_adaptive.commands import compare

    compare.run(options)
    return 0


def declare_comparison(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `compare`."""
    with needs_extra("study"):
        from keras_adaptive.commands import compare

    compare.add_options(parser)


def declare_run(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `run`."""
    parser.add_argument("name", help=f"one of: {', '.join(experiment_names())}")
    parser.add_argument(
        "arguments",
        nargs=argparse.REMAINDER,
        metavar="...",
        help="the experiment's own options; 'run NAME --help' lists them",
    )


def open_ui(port: int) -> int:
    """Serves the MLflow UI of the runs made in this folder, to this machine only.

    Args:
        port: Port to serve on.

    Returns:
        The exit status.

    Raises:
        InputError: If the runs are already on a server, or the port is not free.
    """
    with needs_extra("study"):
        import mlflow

        from keras_adaptive.study.ledger.connection import mask
    store = mlflow.get_tracking_uri()
    if store.startswith(("http://", "https://", "databricks")):
        raise InputError(
            f"The runs are on the MLflow server {mask(store)}, which has its own UI. "
            "Open it there."
        )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except (OSError, OverflowError) as error:
            raise InputError(
                f"Port {port} of {LOOPBACK} cannot be used ({error}). Choose another "
                "with --port."
            ) from error
    command = [sys.executable, "-m", "mlflow", "ui", "--host", LOOPBACK]
    command += ["--port", str(port), "--workers", "1"]
    print(f"MLflow UI of {mask(store)}: http://{LOOPBACK}:{port} (Ctrl-C ends it)")
    # Everybody on the machine can read a command line, but not the environment.
    environment = {RUNS_JOBS: "false", **os.environ, BACKEND_STORE: store}
    server = subprocess.Popen(command, env=environment)
    try:
        return server.wait()
    except Terminated:
        raise
    except KeyboardInterrupt:
        return 0
    finally:
        end_with_children(server)


def end_with_children(process: subprocess.Popen) -> None:
    """Ends a process and all processes that it has started.

    Args:
        process: The process. It may have received a signal already.
    """
    with needs_extra("study"):
        import psutil
    try:
        parent = psutil.Process(process.pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for each in family:
        with suppress(psutil.NoSuchProcess):
            each.terminate()
    _, alive = psutil.wait_procs(family, timeout=SECONDS_TO_END)
    for each in alive:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line.

    The function that runs a command with its options is the option `run`.
    """
    root = argparse.ArgumentParser(prog="keras-adaptive", description=__doc__)
    commands = root.add_subparsers(required=True, parser_class=DeferredParser)
    compare = commands.add_parser(
        "compare",
        declare=declare_comparison,
        description="Compares optimizers on your own model and data, and recommends "
        "one.",
        help="compare optimizers on your own model and data",
    )
    compare.set_defaults(run=run_comparison)
    run = commands.add_parser("run", declare=declare_run, help="run an experiment")
    run.set_defaults(run=lambda given: run_experiment(given.name, given.arguments))
    ui = commands.add_parser("ui", help="open the MLflow UI on the runs made here")
    ui.add_argument("--port", type=int, default=5000, help="default: %(default)s")
    ui.set_defaults(run=lambda given: open_ui(given.port))
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: The arguments; `None` for those of the process.

    Returns:
        The exit status: 0 for success, 2 for an input that cannot be used, 130 after
        an interrupt from the keyboard, 143 after SIGTERM.
    """

    def command() -> int:
        options = parser().parse_args(argv)
        status: int = options.run(options)
        return status

    return exit_status(command)


if __name__ == "__main__":
    sys.exit(main())
