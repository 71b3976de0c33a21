"""The command `keras-adaptive`: compare optimizers, run an experiment, see its runs."""

import argparse
import difflib
import importlib
import pkgutil
import socket
import subprocess
import sys
from collections.abc import Sequence

from keras_adaptive.errors import MissingExtraError, StudyError, needs_extra

LOOPBACK = "127.0.0.1"
INTERRUPTED = 130


def experiment_names() -> list[str]:
    """Returns the names of the experiments that can be run."""
    experiments = importlib.import_module("keras_adaptive.experiments")
    return sorted(module.name for module in pkgutil.iter_modules(experiments.__path__))


def run_experiment(name: str, arguments: Sequence[str]) -> int:
    """Runs an experiment.

    Args:
        name: Name of a module of `keras_adaptive.experiments`.
        arguments: The experiment's own command line.

    Returns:
        The exit status.

    Raises:
        StudyError: If there is no such experiment.
    """
    known = experiment_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise StudyError(
            f"There is no experiment {name!r}. Known experiments: {', '.join(known)}."
            + (f" Did you mean {near[0]!r}?" if near else "")
        )
    with needs_extra("study"):
        experiment = importlib.import_module(f"keras_adaptive.experiments.{name}")
    return experiment.main(arguments, prog=f"keras-adaptive run {name}")


def run_comparison(arguments: Sequence[str]) -> int:
    """Compares optimizers on a model and data of one's own.

    Args:
        arguments: The comparison's own command line.

    Returns:
        The exit status.
    """
    with needs_extra("study"):
        from keras_adaptive.study import compare
    return compare.main(arguments, prog="keras-adaptive compare")


def open_ui(port: int) -> int:
    """Serves the MLflow UI of the runs made in this folder, to this machine only.

    Args:
        port: Port to serve on.

    Returns:
        The exit status.

    Raises:
        StudyError: If the runs are on a server already, or the port is not free.
    """
    with needs_extra("study"):
        import mlflow
    store = mlflow.get_tracking_uri()
    if store.startswith(("http://", "https://", "databricks")):
        raise StudyError(
            f"The runs are on the MLflow server {store}, which has a UI of its own: "
            "open it there."
        )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except (OSError, OverflowError) as error:
            raise StudyError(
                f"Port {port} of {LOOPBACK} cannot be used ({error}). Choose another "
                "with --port."
            ) from error
    command = [sys.executable, "-m", "mlflow", "ui", "--host", LOOPBACK]
    command += ["--port", str(port), "--backend-store-uri", store]
    print(f"MLflow UI of {store}: http://{LOOPBACK}:{port} (Ctrl-C ends it)")
    server = subprocess.Popen(command)
    try:
        return server.wait()
    except KeyboardInterrupt:  # the server got it as well and is shutting down
        server.wait()
        return 0


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    root = argparse.ArgumentParser(prog="keras-adaptive", description=__doc__)
    commands = root.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "compare",
        add_help=False,
        help="compare optimizers on your own model and data; 'compare --help' lists "
        "the options",
    )
    run = commands.add_parser("run", help="run an experiment")
    run.add_argument("name", help=f"one of: {', '.join(experiment_names())}")
    run.add_argument(
        "arguments",
        nargs=argparse.REMAINDER,
        metavar="...",
        help="the experiment's own options; 'run NAME --help' lists them",
    )
    ui = commands.add_parser("ui", help="open the MLflow UI on the runs made here")
    ui.add_argument("--port", type=int, default=5000, help="default: %(default)s")
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: The arguments; `None` for those of the process.

    Returns:
        The exit status: 0 for success, 2 for an input that cannot be used, 130 after
        an interrupt from the keyboard.
    """
    root = parser()
    options, others = root.parse_known_args(argv)
    if others and options.command != "compare":
        root.error(f"unrecognized arguments: {' '.join(others)}")
    try:
        if options.command == "compare":
            return run_comparison(others)
        if options.command == "ui":
            return open_ui(options.port)
        return run_experiment(options.name, options.arguments)
    except (StudyError, MissingExtraError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
