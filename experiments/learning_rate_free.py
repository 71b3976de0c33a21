"""Do learning-rate-free optimizers, as they are, come close to a tuned Adam?

Adam's learning rate is tuned on seeds of its own, by the validation accuracy at the
end of training. On fresh seeds it then meets optimizers that are said to need no
tuning, at their defaults. Run it with

    keras-adaptive run learning_rate_free
    python -m experiments.learning_rate_free --workloads digits --optimizers DoG Prodigy
"""

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
from rich.console import Console
from rich.markdown import Markdown
from scipy import sparse
from sklearn import datasets as bundled
from sklearn.preprocessing import StandardScaler

from experiments import sparse_text
from experiments.sparse_text import count
from keras_adaptive import optimizers
from keras_adaptive.study import datasets
from keras_adaptive.study.batches import require_tensorflow
from keras_adaptive.study.comparison import installed_software, run_all
from keras_adaptive.study.datasets.dataset import Dataset, Split, stratified_split
from keras_adaptive.study.errors import StudyError
from keras_adaptive.study.ledger import Ledger, quiet_mlflow, store_location
from keras_adaptive.study.results import Spread, validation_accuracies
from keras_adaptive.study.tables import spread
from keras_adaptive.study.training import Contender, Protocol, RunResult
from keras_adaptive.study.tuning import tune

POINTS = 2.0
"""What counts as close, in points of accuracy."""

LOWEST, HIGHEST, WIDENINGS = -6, -2, 4
"""Adam's grid: 0.001 to 0.1 by half decades, and how often it may widen by one."""

FIRST_TUNING_SEED = 100


@dataclass(frozen=True)
class Workload:
    """What is learned, by which model, and for how long.

    Args:
        load: Loads the data, by the options of the command line.
        build: Builds the model from a seed, the number of features and of classes.
        epochs: Passes over the training data.
        batch_size: Rows of a batch.
    """

    load: Callable[[argparse.Namespace], Dataset]
    build: Callable[[int, int, int], keras.Model]
    epochs: int
    batch_size: int


def standardized(options: argparse.Namespace, name: str) -> Dataset:
    """Loads one of scikit-learn's datasets; a quarter of it to choose by and to test.

    A model with an ordinary `Input` gets the rows of the CSR matrices dense.
    """
    raw = getattr(bundled, f"load_{name}")()
    held_out = stratified_split(raw.target, [0.25, 0.25], seed=0)
    scaler = StandardScaler().fit(raw.data[held_out[-1]])
    x = scaler.transform(raw.data).astype("float32")
    test, validation, train = (
        Split(sparse.csr_matrix(x[rows]), raw.target[rows]) for rows in held_out
    )
    return Dataset(
        name=name,
        source=f"scikit-learn's {name}",
        classes=tuple(map(str, raw.target_names)),
        train=train,
        validation=validation,
        test=test,
    )


def perceptron(
    seed: int, features: int, classes: int, hidden: Sequence[int] = ()
) -> keras.Model:
    """Builds a perceptron; without hidden layers it is a logistic regression."""
    model = keras.Sequential([keras.Input((features,))])
    for layer, units in enumerate([*hidden, classes]):
        last = layer == len(hidden)
        initializer = keras.initializers.GlorotUniform(seed=10 * seed + layer)
        model.add(
            keras.layers.Dense(
                units,
                activation=None if last else "relu",
                kernel_initializer=initializer,
            )
        )
    return model


def text_model(seed: int, features: int, classes: int) -> keras.Model:
    """Builds the model of `sparse_text`."""
    return sparse_text.build_model(seed, features, hidden=64, classes=classes)


WORKLOADS = {
    "digits": Workload(
        partial(standardized, name="digits"), partial(perceptron, hidden=[64]), 30, 32
    ),
    "breast_cancer": Workload(
        partial(standardized, name="breast_cancer"), perceptron, 60, 32
    ),
    "text": Workload(datasets.load, text_model, 4, 128),
}

CONTENDERS = {
    cls.__name__: cls
    for cls in (
        optimizers.DoG,
        optimizers.LDoG,
        optimizers.DoWG,
        optimizers.Prodigy,
        optimizers.DAdaptAdam,
        optimizers.DAdaptSGD,
        optimizers.DAdaptAdaGrad,
        optimizers.COCOB,
    )
}
CONTENDERS["Mechanic"] = lambda rate: optimizers.Mechanic(optimizers.Adam(rate))
"""Their default learning rate is 1, and so is that which Mechanic wants of Adam."""


def adam(rate: float) -> Contender:
    """Returns Adam with a learning rate."""
    return Contender("Adam", "keras_adaptive", optimizers.Adam, rate)


def final_accuracy(result: RunResult) -> float:
    """Returns the validation accuracy after the last epoch."""
    if result.diverged_at is not None:
        return -math.inf
    return validation_accuracies(result)[-1]


@dataclass(frozen=True)
class Line:
    """An optimizer's line in the table."""

    name: str
    rate: float
    validation: Spread
    test: Spread

    @classmethod
    def of(cls, results: Sequence[RunResult]) -> "Line":
        contender = results[0].contender
        return cls(
            contender.algorithm,
            contender.learning_rate,
            Spread.of(map(final_accuracy, results)),
            Spread.of(result.test_accuracy for result in results),
        )


def compare(
    workload: str, data: Dataset, options: argparse.Namespace, console: Console
) -> str:
    """Tunes Adam on a workload, runs all optimizers and returns the table."""
    work = WORKLOADS[workload]
    console.print(data.describe())
    epochs = options.epochs or work.epochs
    build_model = partial(work.build, features=data.features, classes=len(data.classes))
    ledger = Ledger("learning_rate_free")

    def runs(phase: str, first_seed: int, contenders: Sequence[Contender]):
        """Returns the runs of each contender in turn."""
        seeds = tuple(range(first_seed, first_seed + options.seeds))
        protocol = Protocol(epochs, work.batch_size, seeds)
        params = {"workload": data.name, "epochs": epochs, **installed_software()}
        with ledger.study(f"{phase} on {data.name}", params):
            results = run_all(
                ledger, data, contenders, build_model, protocol, console, phase
            )
        return [results[n :: len(contenders)] for n in range(len(contenders))]

    def losses(rates: Sequence[float]) -> list[float]:
        groups = runs("tune", FIRST_TUNING_SEED, [adam(rate) for rate in rates])
        return [-statistics.median(map(final_accuracy, group)) for group in groups]

    best, tried = tune(losses, LOWEST, HIGHEST, widenings=WIDENINGS)
    others = [
        Contender(name, "keras_adaptive", CONTENDERS[name], 1.0)
        for name in options.optimizers
    ]
    lines = [Line.of(group) for group in runs("compare", 0, [adam(best), *others])]
    grid = ", ".join(f"{rate:.2g}" for rate in tried)
    steps = epochs * -(-len(data.train.y) // work.batch_size)
    return (
        f"## {workload}\n\n{data.describe()}; {epochs} epochs ({steps} steps) in "
        f"batches of {work.batch_size}. Adam's rate was chosen among {grid}.\n\n"
        + to_markdown(lines)
    )


def to_markdown(lines: Sequence[Line]) -> str:
    """Makes the table of a workload; the first line is the tuned Adam's."""
    head = ["optimizer", "validation accuracy", "test accuracy", "points"]
    head += [f"within {POINTS:g} points"]
    rows = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for line in lines:
        first = line is lines[0]
        points = 100 * (line.validation.median - lines[0].validation.median)
        points = round(points, 3)
        name = f"{line.name}, tuned: {line.rate:.2g}" if first else line.name
        close = "yes" if points >= -POINTS else "**no**"
        rows.append(
            [
                name,
                spread(line.validation, ".3f"),
                spread(line.test, ".3f"),
                "" if first else f"{points:+.1f}",
                "" if first else close,
            ]
        )
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def parse(argv: Sequence[str] | None, prog: str | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    datasets.add_arguments(parser, default="docstrings")
    for option, known in (("workloads", WORKLOADS), ("optimizers", CONTENDERS)):
        parser.add_argument(
            f"--{option}",
            nargs="+",
            choices=list(known),
            default=list(known),
            metavar="NAME",
            help=f"some of: {', '.join(known)} (default: all)",
        )
    parser.add_argument("--seeds", type=count, default=3, help="number of seeds")
    parser.add_argument("--epochs", type=count, help="instead of each workload's own")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("results/learning_rate_free"),
        help="folder for the table (default: %(default)s)",
    )
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> str:
    """Runs the experiment and returns the tables."""
    require_tensorflow()
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(
            f"The folder {options.output} cannot be made ({error}). Name another with "
            "--output."
        ) from error
    console = Console()
    with console.status("Loading the data …"):
        loaded = {name: WORKLOADS[name].load(options) for name in options.workloads}
    with quiet_mlflow():
        tables = [
            compare(name, data, options, console) for name, data in loaded.items()
        ]
    text = (
        f"Median [range] over {options.seeds} seeds, after the last epoch; points: "
        "the difference of the median validation accuracies.\n\n" + "\n".join(tables)
    )
    file = options.output / "table.md"
    file.write_text(text, encoding="utf-8")
    console.print(Markdown(text))
    console.print(f"Table: {file}")
    console.print(f"Runs in MLflow: {store_location()}; see 'keras-adaptive ui'")
    return text


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
