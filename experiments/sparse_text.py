"""Which optimizer learns bag-of-words text best, and what does a step cost?

A text is a sparse row of tens of thousands of word weights, of which a batch touches
a few thousand. It goes into the model as it is, as a scipy CSR matrix through a sparse
`Input`. Run it with

    keras-adaptive run sparse_text --data docstrings
    python -m experiments.sparse_text --data svmlight:news20.bz2 --epochs 5
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import keras
from rich.console import Console

from keras_adaptive.study import (
    Contender,
    Epochs,
    Protocol,
    Results,
    Study,
    Workload,
    command,
    datasets,
)
from keras_adaptive.study.batches import require_tensorflow
from keras_adaptive.study.command import count, positive
from keras_adaptive.study.summary import publish

# Of half decades, those with the best validation accuracy on docstrings (of the best
# epoch, the median over three seeds) by `--first-seed 100 --learning-rate adam=0.01`
# and so on: 0.1 to 3 for SGD and Adagrad (both fail at 3), 0.001 to 0.1 for RMSprop,
# 0.003 to 0.1 for Adam and AdamW. Keras's and ours take the same rate.
LEARNING_RATES = {
    "sgd": 0.3,
    "adagrad": 1.0,
    "rmsprop": 0.01,
    "adam": 0.03,
    "adamw": 0.03,
}
REFERENCE = "keras/sgd"
OPTIMIZERS = {
    "keras/sgd": partial(keras.optimizers.SGD, momentum=0.9),
    "keras/adagrad": "keras/adagrad",
    "keras_adaptive/adagrad": "adagrad",
    "keras_adaptive/rmsprop": "rmsprop",
    "keras/adam": "keras/adam",
    "keras_adaptive/adam": "adam",
    "keras_adaptive/adamw": "adamw",
}


def build_model(seed: int, features: int, hidden: int, classes: int) -> keras.Model:
    """Builds a text classifier whose initial weights the seed decides."""
    words = keras.Input(shape=(features,), sparse=True)
    glorot = keras.initializers.GlorotUniform
    layer = keras.layers.Dense(
        hidden, activation="relu", kernel_initializer=glorot(seed=2 * seed)
    )
    logits = keras.layers.Dense(classes, kernel_initializer=glorot(seed=2 * seed + 1))
    return keras.Model(words, logits(layer(words)))


def learning_rate(text: str) -> tuple[str, float]:
    """Parses `adam=0.01`."""
    algorithm, _, value = text.partition("=")
    if algorithm not in LEARNING_RATES:
        known = ", ".join(LEARNING_RATES)
        raise argparse.ArgumentTypeError(
            f"{text!r} should be ALGORITHM=VALUE with an algorithm of {known}"
        )
    return algorithm, positive(value)


def parse(argv: Sequence[str] | None, prog: str | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    datasets.add_arguments(parser, "docstrings")
    parser.add_argument("--epochs", type=count, default=4)
    parser.add_argument("--seeds", type=count, default=3, help="number of seeds")
    parser.add_argument(
        "--first-seed",
        type=int,
        default=0,
        help="seeds count up from here; tune with others than you compare with",
    )
    parser.add_argument("--batch-size", type=count, default=128)
    parser.add_argument("--hidden", type=count, default=64, help="hidden units")
    parser.add_argument(
        "--learning-rate",
        type=learning_rate,
        action="append",
        default=[],
        metavar="ALGORITHM=VALUE",
        help=f"may be repeated (defaults: {LEARNING_RATES})",
    )
    parser.add_argument(
        "--contenders",
        nargs="+",
        choices=list(OPTIMIZERS),
        default=list(OPTIMIZERS),
        metavar="NAME",
        help=f"who takes part beside {REFERENCE}: {', '.join(OPTIMIZERS)}",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("results"), help="for plots and tables"
    )
    command.add_run_options(parser)
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> Results:
    """Runs the experiment."""
    require_tensorflow()
    output = command.output_folder(options.output)
    console = Console()
    with console.status(f"Loading {options.data} …"):
        data = datasets.load(options)
    console.print(data.describe())
    rates = LEARNING_RATES | dict(options.learning_rate)
    workload = Workload(
        data.name,
        partial(
            build_model,
            features=data.features,
            hidden=options.hidden,
            classes=len(data.classes),
        ),
        data,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch_size=options.batch_size,
        budget=Epochs(options.epochs),
    )
    contenders = [
        Contender(optimizer, [rates[name.split("/")[1]]], label=name)
        for name, optimizer in OPTIMIZERS.items()
        if name in {REFERENCE, *options.contenders}
    ]
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    protocol = Protocol(seeds=tuple(seeds), reference=REFERENCE)
    study = Study("sparse_text", [workload], contenders, protocol)
    results = command.run_study(study, options, console)
    publish(results, study.name, output, console)
    return results


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs the experiment from the command line and returns its exit status."""
    return command.main(parse, run, argv, prog)


if __name__ == "__main__":
    sys.exit(main())
