"""Which optimizer learns bag-of-words text best, and what does a step cost?

A text is a sparse row of tens of thousands of word weights, of which a batch touches
a few thousand. It goes into the model as it is, as a scipy CSR matrix through a sparse
`Input`. Run it with

    keras-adaptive run sparse_text --data docstrings
    python -m experiments.sparse_text --data svmlight:news20.bz2 --epochs 5
"""

import argparse
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import keras
from rich.console import Console

from keras_adaptive import optimizers
from keras_adaptive.study import datasets
from keras_adaptive.study.batches import require_tensorflow
from keras_adaptive.study.comparison import Comparison, compare
from keras_adaptive.study.errors import StudyError
from keras_adaptive.study.training import Contender, Protocol

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
MAKERS = {
    "keras/sgd": partial(keras.optimizers.SGD, momentum=0.9),
    "keras/adagrad": keras.optimizers.Adagrad,
    "keras_adaptive/adagrad": optimizers.Adagrad,
    "keras_adaptive/rmsprop": optimizers.RMSprop,
    "keras/adam": keras.optimizers.Adam,
    "keras_adaptive/adam": optimizers.Adam,
    "keras_adaptive/adamw": optimizers.AdamW,
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


def positive(text: str) -> float:
    """Parses a positive, finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def count(text: str) -> int:
    """Parses a whole number of at least one."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def parse(argv: Sequence[str] | None, prog: str | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    datasets.add_arguments(parser, default="docstrings")
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
        choices=list(MAKERS),
        default=list(MAKERS),
        metavar="NAME",
        help=f"who takes part beside the reference {REFERENCE}: {', '.join(MAKERS)}",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("results"), help="for plots and tables"
    )
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> Comparison:
    """Runs the experiment."""
    require_tensorflow()
    console = Console()
    with console.status(f"Loading {options.data} …"):
        data = datasets.load(options)
    console.print(data.describe())
    rates = LEARNING_RATES | dict(options.learning_rate)
    contenders = [
        Contender(algorithm, library, make, rates[algorithm])
        for name, make in MAKERS.items()
        for library, algorithm in [name.split("/")]
        if name in {REFERENCE, *options.contenders}
    ]
    return compare(
        name="sparse_text",
        data=data,
        contenders=contenders,
        reference=REFERENCE,
        build_model=partial(
            build_model,
            features=data.features,
            hidden=options.hidden,
            classes=len(data.classes),
        ),
        protocol=Protocol(
            options.epochs,
            options.batch_size,
            tuple(options.first_seed + n for n in range(options.seeds)),
        ),
        output=options.output,
        console=console,
    )


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs the experiment from the command line and returns its exit status."""
    try:
        run(parse(argv, prog))
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
