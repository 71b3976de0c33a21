"""The command `keras-adaptive compare`: a study of your own model and data."""

import argparse
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from keras_adaptive.commands import data_options
from keras_adaptive.commands import options as command
from keras_adaptive.errors import InputError, did_you_mean, needs_extra
from keras_adaptive.study.compare import (
    FULL,
    OPTIMIZERS,
    Build,
    comparison,
    quick_protocol,
)
from keras_adaptive.study.design.defaults import default_contenders
from keras_adaptive.study.design.tuner import Tuner
from keras_adaptive.study.design.workload import Epochs
from keras_adaptive.study.publish import publish
from keras_adaptive.study.results import Results
from keras_adaptive.terminal import say

with needs_extra("study"):
    import cloudpickle
    from rich.console import Console


def load_builder(text: str) -> Build:
    """Loads a model builder from a Python file.

    Args:
        text: The file and the function in it, as in `my_model.py:build_model`. The file
            can import the modules beside it.

    Raises:
        InputError: If there is no such file or function, or the file cannot be run.
    """
    file, _, name = text.rpartition(":")
    path = Path(file).expanduser().resolve()
    if not file or not name or path.suffix != ".py":
        raise InputError(
            f"--model is {text!r}. Expected a Python file and a function in it, such "
            "as my_model.py:build_model."
        )
    if not path.is_file():
        raise InputError(f"--model: {path} does not exist. Expected a Python file.")
    specification = importlib.util.spec_from_file_location(f"{path.stem}_file", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[module.__name__] = module
    sys.path.insert(0, str(path.parent))
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(
            f"--model: {path} cannot be run: {type(error).__name__}: {error}"
        ) from error
    # Other processes cannot import it by this name.
    cloudpickle.register_pickle_by_value(module)
    known = [each for each, thing in vars(module).items() if callable(thing)]
    if name not in known:
        raise InputError(
            f"--model: {path} has no function {name!r}.{did_you_mean(name, known)}"
        )
    build: Build = getattr(module, name)
    return build


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command, for `run`."""
    parser.add_argument(
        "--model",
        metavar="FILE.py:FUNCTION",
        help="the function that makes the uncompiled model, from a seed or without "
        "arguments (default: a small model that fits the data)",
    )
    data_options.add_data_options(parser)
    parser.add_argument(
        "--optimizers",
        default=",".join(OPTIMIZERS),
        metavar="NAMES",
        help="names of this library's optimizers, or keras/NAME, separated by commas; "
        "SGD with momentum always takes part (default: %(default)s)",
    )
    parser.add_argument(
        "--loss",
        metavar="NAME",
        help="a loss of Keras (default: one that fits data and model)",
    )
    parser.add_argument(
        "--metric",
        metavar="NAME",
        help="a metric of Keras (default: one that fits data and model)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a first look: fewer trials and epochs; also fewer seeds, which decide "
        "nothing, if runs cannot be compiled",
    )
    for option, what in (
        ("--epochs", "epochs of a run"),
        ("--seeds", "seeds to judge by; fewer than 6 cannot decide anything"),
        ("--tuning-seeds", "seeds to tune by; fewer than 6 cannot decide robustness"),
    ):
        parser.add_argument(option, type=command.count, metavar="N", help=what)
    parser.add_argument(
        "--tuner",
        choices=("grid", "optuna"),
        default="grid",
        help="tune on a grid, or by Optuna's TPE sampler (default: %(default)s)",
    )
    command.add_output_option(parser, "results", "report, plots and tables")
    command.add_run_options(parser)


def _tuner(name: str) -> Tuner | None:
    """Returns the tuner that `--tuner` names, `None` for the grid."""
    if name == "grid":
        return None
    from keras_adaptive.study.design.optuna_tuner import OptunaTuner

    return OptunaTuner()


def run(options: argparse.Namespace) -> Results:
    """Runs the comparison that the options of `add_options` describe."""
    names = [name.strip() for name in options.optimizers.split(",") if name.strip()]
    changed: dict[str, Any] = {
        "budget": options.epochs and Epochs(options.epochs),
        "seeds": options.seeds,
        "tuning_seeds": options.tuning_seeds,
        "tuner": _tuner(options.tuner),
    }
    changed = {name: each for name, each in changed.items() if each}
    default_contenders(names, FULL.tuning_trials)
    build = load_builder(options.model) if options.model else None
    command.output_folder(options.output)
    console = Console()
    data = data_options.load_one(options)
    command.show_data([data], console)
    size = quick_protocol(data, options.runner) if options.quick else FULL
    protocol = replace(size, **changed)
    study = comparison(data, build, names, protocol, options.loss, options.metric)
    (workload,) = study.workloads
    place = command.results_folder(study, f"{study.name}-{workload.name}", options)
    results = command.run_study(study, options, console)
    publish(results, place, console)
    why = results.recommendation(workload.name).why
    say(console, "", why)
    return results
