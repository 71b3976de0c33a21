"""Do learning-rate-free optimizers come close to a tuned Adam without tuning?

Adam's learning rate is tuned by the validation accuracy at the end of training. With
other seeds, tuned Adam is then compared with the learning-rate-free optimizers at their
defaults.

    keras-adaptive run learning_rate_free
    keras-adaptive run learning_rate_free --workloads digits --optimizers DoG Prodigy
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import keras
import pandas as pd
from rich.console import Console
from rich.markdown import Markdown
from sklearn import datasets as bundled
from sklearn.preprocessing import StandardScaler

from keras_adaptive import optimizers
from keras_adaptive.commands import data_options
from keras_adaptive.commands import options as command
from keras_adaptive.datasets import Dataset, Split
from keras_adaptive.datasets.batches import require_tensorflow
from keras_adaptive.datasets.splitting import stratified_split
from keras_adaptive.study import Contender, Epochs, Protocol, Results, Study, Workload
from keras_adaptive.study.design.grid import half_decade
from keras_adaptive.study.ledger.connection import store_location
from keras_adaptive.study.reporting.tables import Spread, spread
from keras_adaptive.terminal import say

POINTS = 2.0
"""The largest difference in points of accuracy that counts as close."""

GRID = [half_decade(exponent) for exponent in range(-6, -1)]
"""Adam's learning rates: 0.001 to 0.1."""

WIDENING_TRIALS = 4


@dataclass(frozen=True)
class Recipe:
    """Data, a model for them, and the length of training.

    Args:
        load: Loads the data that the command line describes.
        build: Builds the model from a seed, `features` and `classes`: their numbers.
        epochs: Passes over the training data.
        batch_size: Rows of a batch.
    """

    load: Callable[[argparse.Namespace], Dataset]
    build: Callable[..., keras.Model]
    epochs: int
    batch_size: int

    def workload(self, name: str, data: Dataset) -> Workload:
        """Returns the workload of the loaded data."""
        return Workload(
            name,
            partial(self.build, features=data.features, classes=len(data.classes)),
            data,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            batch_size=self.batch_size,
            budget=Epochs(self.epochs),
        )


def standardized(options: argparse.Namespace | None, name: str) -> Dataset:
    """Loads a dataset of scikit-learn; validation and test part are a quarter each."""
    raw = getattr(bundled, f"load_{name}")()
    held_out = stratified_split(raw.target, [0.25, 0.25], seed=0)
    scaler = StandardScaler().fit(raw.data[held_out[-1]])
    x = scaler.transform(raw.data).astype("float32")
    test, validation, train = (Split(x[rows], raw.target[rows]) for rows in held_out)
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
    """Builds a perceptron with one hidden layer over the words of a text."""
    words = keras.Input(shape=(features,), sparse=True)
    glorot = keras.initializers.GlorotUniform
    layer = keras.layers.Dense(
        64, activation="relu", kernel_initializer=glorot(seed=2 * seed)
    )
    logits = keras.layers.Dense(classes, kernel_initializer=glorot(seed=2 * seed + 1))
    return keras.Model(words, logits(layer(words)))


RECIPES = {
    "digits": Recipe(
        partial(standardized, name="digits"), partial(perceptron, hidden=[64]), 30, 32
    ),
    "breast_cancer": Recipe(
        partial(standardized, name="breast_cancer"), perceptron, 60, 32
    ),
    "text": Recipe(data_options.load_one, text_model, 4, 128),
}

CONTENDERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
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
"""All have the default learning rate 1; Mechanic expects the same of its Adam."""


@dataclass(frozen=True)
class Line:
    """The line of an optimizer in the table."""

    name: str
    rate: float
    validation: Spread
    test: Spread

    @classmethod
    def of(cls, name: str, runs: pd.DataFrame) -> "Line":
        """Returns the line of an optimizer from its evaluation runs."""
        return cls(
            name,
            runs["learning_rate"].iloc[0],
            Spread.of(runs["validation_metric"]),
            Spread.of(runs["test_metric"]),
        )


def section(results: Results, name: str, data: Dataset, recipe: Recipe) -> str:
    """Returns the heading, the facts and the table of a workload."""
    runs = results.runs[results.runs["workload"] == name]
    tuning, judging = (runs[runs["phase"] == phase] for phase in ("tune", "compare"))
    lines = [
        Line.of(label, judging[judging["contender"] == label])
        for label in judging["contender"].unique()
    ]
    steps = Epochs(recipe.epochs).steps(len(data.train.y), recipe.batch_size)
    rates = sorted(tuning["learning_rate"].unique())
    return (
        f"## {name}\n\n{data.describe()}; {recipe.epochs} epochs ({steps} steps) in "
        f"batches of {recipe.batch_size}. Adam's rate was chosen among "
        f"{', '.join(f'{rate:.2g}' for rate in rates)}.\n\n" + to_markdown(lines)
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
    data_options.add_data_options(parser, "docstrings")
    command.add_names_option(parser, "--workloads", RECIPES)
    command.add_names_option(parser, "--optimizers", CONTENDERS)
    parser.add_argument(
        "--seeds", type=command.count, default=3, help="number of seeds"
    )
    parser.add_argument(
        "--epochs", type=command.count, help="instead of each workload's own"
    )
    command.add_output_option(parser, "results/learning_rate_free", "the table")
    command.add_run_options(parser)
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> str:
    """Runs the experiment and returns the tables."""
    require_tensorflow()
    output = command.output_folder(options.output)
    console = Console()
    with console.status("Loading the data …"):
        loaded = {name: RECIPES[name].load(options) for name in options.workloads}
    recipes = {
        name: replace(RECIPES[name], epochs=options.epochs or RECIPES[name].epochs)
        for name in loaded
    }
    workloads = [recipes[name].workload(name, data) for name, data in loaded.items()]
    contenders = [Contender("adam", GRID, label="Adam")]
    contenders += [Contender(CONTENDERS[n], [1.0], label=n) for n in options.optimizers]
    protocol = Protocol(
        tuning_trials=len(GRID),
        widening_trials=WIDENING_TRIALS,
        tuning_seeds=options.seeds,
        seeds=options.seeds,
        reference="Adam",
    )
    study = Study("learning_rate_free", workloads, contenders, protocol)
    results = command.run_study(study, options, console)
    text = (
        f"Median [range] over {options.seeds} seeds, after the last epoch; points: "
        "the difference of the median validation accuracies.\n\n"
        + "\n".join(section(results, n, loaded[n], recipes[n]) for n in loaded)
    )
    file = output / "table.md"
    file.write_text(text, encoding="utf-8")
    results.artifacts.attach(file)
    console.print(Markdown(text))
    say(console, f"Table: {file}")
    say(console, f"Runs in MLflow: {store_location()}; see 'keras-adaptive ui'")
    return text


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs the experiment from the command line and returns its exit status."""
    return command.main(parse, run, argv, prog)


if __name__ == "__main__":
    sys.exit(main())
