"""Do the optimizers reproduce published and proved results?

Each claim is measured again with this library's optimizers and Keras's SGD, and is hit
or missed.

    keras-adaptive run reproductions
    keras-adaptive run reproductions --data-home DIR

The first two reproductions need no data. The others are skipped unless DIR holds
`a9a.bz2` and `a9a.t.bz2`, the cache of 20 Newsgroups, or `SMSSpamCollection`.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from rich.console import Console
from rich.table import Table
from scipy import sparse
from scipy.special import expit
from sklearn.feature_extraction.text import CountVectorizer

from keras_adaptive import optimizers
from keras_adaptive.commands.options import exit_status
from keras_adaptive.datasets import Split, newsgroups
from keras_adaptive.datasets.svmlight import read_svmlight
from keras_adaptive.errors import InputError
from keras_adaptive.study.design.grid import beyond_the_edge, half_decade

ROUNDS, STEP = 30_000, 0.5
"""Reddi et al.: rounds of the game, and α of the steps α/√t."""

BATCH, EPOCHS = 128, 10
"""Rows of a batch; passes over a9a, while the rate decays to zero by half a cosine."""

GROUPS = ("sci.med", "sci.space")
LOWEST, HIGHEST = -4, 2
"""Texts: the grid of learning rates, 0.01 to 10 by half decades; it may widen."""

TUNING_ORDERS, ORDERS = range(3), range(3, 8)
"""Texts: seeds of the orders of the rows to tune on, and of those to judge by."""

WELL_UNDER = 0.5
"""Texts: a loss is well under another if it is at most this share of it."""


class Absent(Exception):
    """The data of a reproduction are missing; the message says why."""


@dataclass(frozen=True)
class Check:
    """A claim and its measurement.

    Args:
        claim: The quantity, and where it is measured.
        expected: The number or order that was published or proved.
        measured: The number or order that was measured here.
        hit: Whether the measurement agrees with the claim.
    """

    claim: str
    expected: str
    measured: str
    hit: bool


@keras.saving.register_keras_serializable("keras_adaptive.experiments")
class InverseSqrt(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate α/√t of step t = 1, 2, …, for which regret bounds are proved.

    Args:
        initial: α.
    """

    def __init__(self, initial: float) -> None:
        self.initial = initial

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate of a step, counted from 0."""
        return self.initial / ops.sqrt(ops.cast(step, "float32") + 1)

    def get_config(self) -> dict[str, float]:
        """Returns the arguments."""
        return {"initial": self.initial}


def descend(
    optimizer: keras.optimizers.Optimizer,
    gradient: Callable[[int, np.ndarray], np.ndarray],
    size: int,
    steps: int,
) -> np.ndarray:
    """Minimizes a function of a vector, starting from zero.

    Args:
        optimizer: Takes the steps.
        gradient: The gradient at a step, counted from 0, and a vector.
        size: Entries of the vector.
        steps: Number of steps.

    Returns:
        The vector after the last step.
    """
    weights = keras.Variable(np.zeros(size, "float32"))
    optimizer.build([weights])
    for step in range(steps):
        slope = gradient(step, ops.convert_to_numpy(weights))
        optimizer.apply([ops.convert_to_tensor(slope, "float32")], [weights])
    return ops.convert_to_numpy(weights)


def wilson_examples(labels: np.ndarray, first: int, columns: int) -> sparse.csr_matrix:
    """Makes the examples of Wilson et al. 2017, section 3.3, for labels of ±1.

    The first feature is the label and the next two are 1. Each example has five
    features of its own; a positive example sets the first of them, a negative one all.

    Args:
        labels: The label of each example, 1 or -1.
        first: Number of the first example, which decides where its own features are.
        columns: Number of all features.

    Returns:
        The examples as rows.
    """
    x = sparse.lil_matrix((len(labels), columns), dtype=np.float32)
    x[:, 0], x[:, 1:3] = labels[:, None], 1
    for row, label in enumerate(labels):
        own = 3 + 5 * (first + row)
        x[row, own : own + (1 if label > 0 else 5)] = 1
    return x.tocsr()


def wilson(
    data_home: Path | None, examples: int = 200, seed: int = 0
) -> Iterator[Check]:
    """Checks that adaptive methods fail to generalize here (arXiv:1705.08292)."""
    rng = np.random.default_rng(seed)
    y, y_test = np.where(rng.random((2, examples)) < 0.6, 1, -1).astype("float32")
    columns = 3 + 10 * examples
    x = wilson_examples(y, 0, columns)
    x_test = wilson_examples(y_test, examples, columns)

    def slope(step: int, weights: np.ndarray) -> np.ndarray:
        return 2 * x.T @ (x @ weights - y) / examples

    positive = float(np.mean(y_test > 0))
    for name, optimizer, expected in (
        ("SGD", keras.optimizers.SGD(0.1), 1.0),
        ("Adagrad", optimizers.Adagrad(0.1, 0.0, epsilon=1e-12), positive),
        ("RMSprop", optimizers.RMSprop(0.01, epsilon=1e-12), positive),
        ("Adam", optimizers.Adam(0.01, epsilon=1e-12), positive),
        ("Adam, ε = 1", optimizers.Adam(0.01, epsilon=1.0), 1.0),
    ):
        weights = descend(optimizer, slope, columns, steps=100)
        accuracy = float(np.mean(np.sign(x_test @ weights) == y_test))
        share = "" if expected == 1 else ", the share of positive labels"
        yield Check(
            f"Wilson 2017: test accuracy of {name}",
            f"{expected:.4f}{share}",
            f"{accuracy:.4f}",
            accuracy == expected,
        )


def reddi(data_home: Path | None, rounds: int = ROUNDS) -> Iterator[Check]:
    """Checks that AMSGrad converges and Adam does not (arXiv:1904.09237, theorem 1)."""
    costs = np.where(np.arange(1, rounds + 1) % 3 == 1, 3.0, -1.0)[:, None]
    adam = partial(optimizers.Adam, beta_1=0.0, beta_2=0.1)
    for name, make, end, regret in (
        ("Adam", adam, 1, 2 / 3),
        ("AMSGrad", partial(adam, amsgrad=True), -1, 0),
        ("Adagrad", optimizers.Adagrad, -1, 0),
        ("SGD", keras.optimizers.SGD, -1, 0),
    ):
        point = keras.layers.Dense(
            1,
            use_bias=False,
            kernel_initializer="zeros",
            kernel_constraint=lambda x: ops.clip(x, -1, 1),
        )
        model = keras.Sequential([keras.Input((1,)), point])
        model.compile(
            make(InverseSqrt(STEP)),
            loss=lambda _, cost: cost,
            steps_per_execution=1_000,
        )
        history = model.fit(costs, costs, batch_size=1, shuffle=False, verbose=0)
        x = float(point.get_weights()[0].item())
        average = history.history["loss"][0] + float(np.mean(costs))
        yield Check(
            f"Reddi 2018: {name} after {rounds:,} rounds",
            f"x = {end} ± 0.02, average regret {regret:.3f} ± 0.02",
            f"x = {x:.3f}, average regret {average:.4f}",
            abs(x - end) <= 0.02 and abs(average - regret) <= 0.02,
        )


def present(data_home: Path | None, *names: str) -> list[Path]:
    """Returns the paths of files in a folder.

    Raises:
        Absent: If a file does not exist, or no folder was named.
    """
    if data_home is None:
        raise Absent(f"needs --data-home DIR with {' and '.join(names)}")
    paths = [data_home / name for name in names]
    for path in paths:
        if not path.is_file():
            raise Absent(f"{path} does not exist")
    return paths


def as_arrays(part: Split) -> tuple[np.ndarray, np.ndarray]:
    """Returns dense features, and labels of 0 and 1."""
    x: Any = part.x
    return x.toarray(), (part.y > 0).astype("float32")


def a9a(data_home: Path | None) -> Iterator[Check]:
    """Checks logistic regression on a9a, a convex problem with a known solution."""
    rng = np.random.default_rng(0)
    train, test = read_svmlight(present(data_home, "a9a.bz2", "a9a.t.bz2"))
    (x, y), (x_test, y_test) = map(as_arrays, (train, test))
    for name, make, rate in (
        ("Adam", optimizers.Adam, 0.003),
        ("Adagrad", optimizers.Adagrad, 1.0),
        ("SGD with momentum", partial(keras.optimizers.SGD, momentum=0.9), 0.3),
    ):
        layer = keras.layers.Dense(1, "sigmoid", kernel_initializer="zeros")
        model = keras.Sequential([keras.Input(x.shape[1:]), layer])
        steps = EPOCHS * -(-len(y) // BATCH)
        model.compile(
            make(keras.optimizers.schedules.CosineDecay(rate, steps)),
            loss="binary_crossentropy",
            metrics=["accuracy"],
            steps_per_execution=50,
        )
        for _ in range(EPOCHS):
            order = rng.permutation(len(y))
            model.fit(x[order], y[order], BATCH, shuffle=False, verbose=0)
        loss, accuracy = model.evaluate(x_test, y_test, 4096, verbose=0)
        yield Check(
            f"Logistic regression on a9a, test rows: {name}",
            "accuracy 0.850 ± 0.001, log-loss 0.324 ± 0.001",
            f"accuracy {accuracy:.4f}, log-loss {loss:.4f}",
            abs(accuracy - 0.850) <= 0.001 and abs(loss - 0.324) <= 0.001,
        )


def group_texts(data_home: Path | None) -> tuple[list[str], np.ndarray]:
    """Returns the training texts of `GROUPS`, and 1 for those of the first group."""
    (cache,) = present(data_home, newsgroups.CACHE_NAME)
    every = newsgroups.fetch("train", cache.parent, headers=True)
    names = [every.target_names[target] for target in every.target]
    rows = [row for row, name in enumerate(names) if name in GROUPS]
    first = [names[row] == GROUPS[0] for row in rows]
    return [every.data[row] for row in rows], np.array(first, "float32")


def messages(data_home: Path | None) -> tuple[list[str], np.ndarray]:
    """Returns the messages of the SMS Spam Collection, and which of them are spam."""
    (path,) = present(data_home, "SMSSpamCollection")
    lines = path.read_text(encoding="utf-8").splitlines()
    labels, texts = zip(*(line.split("\t", 1) for line in lines), strict=True)
    return list(texts), np.array([label == "spam" for label in labels], "float32")


def loss_after_epoch(
    optimizer: keras.optimizers.Optimizer,
    x: sparse.csr_matrix,
    y: np.ndarray,
    seed: int,
) -> float:
    """Returns the training loss of logistic regression after one pass from zero."""
    order = np.random.default_rng(seed).permutation(len(y))
    chunks = [order[at : at + BATCH] for at in range(0, len(y), BATCH)]
    batches = [(x[rows], y[rows]) for rows in chunks]

    def slope(step: int, weights: np.ndarray) -> np.ndarray:
        features, labels = batches[step]
        return features.T @ (expit(features @ weights) - labels) / len(labels)

    weights = descend(optimizer, slope, x.shape[1], len(batches))
    return float(np.mean(np.logaddexp(0, (1 - 2 * y) * (x @ weights))))


def tuned_loss(
    make: Callable[[float], keras.optimizers.Optimizer],
    x: sparse.csr_matrix,
    y: np.ndarray,
) -> float:
    """Returns the training loss after one pass with the best learning rate of a grid.

    The loss of a learning rate is the median over several orders of the rows.
    """

    def loss(rate: float, orders: Iterable[int]) -> float:
        losses = [loss_after_epoch(make(rate), x, y, order) for order in orders]
        return float(np.median(losses))

    rates = map(half_decade, range(LOWEST, HIGHEST + 1))
    scores = {rate: -loss(rate, TUNING_ORDERS) for rate in rates}
    while (rate := beyond_the_edge(scores)) is not None:
        scores[rate] = -loss(rate, TUNING_ORDERS)
    return loss(max(scores, key=scores.__getitem__), ORDERS)


def words(
    name: str, load: Callable[[Path | None], Any], data_home: Path | None
) -> Iterator[Check]:
    """Checks the order of the Adam paper's figure 1 on bags of words (arXiv:1412.6980).

    Adagrad's accumulator starts at 0, as in its paper.
    """
    texts, y = load(data_home)
    counts = CountVectorizer(max_features=10_000, binary=True, dtype=np.float32)
    x = counts.fit_transform(texts)
    contenders = {
        "Adagrad": partial(optimizers.Adagrad, initial_accumulator_value=0.0),
        "Adam": optimizers.Adam,
        "Nesterov": partial(keras.optimizers.SGD, momentum=0.9, nesterov=True),
        "SGD": keras.optimizers.SGD,
    }
    losses = {name: tuned_loss(make, x, y) for name, make in contenders.items()}
    low, high = sorted((losses["Adagrad"], losses["Adam"]))
    yield Check(
        f"Adam paper: training loss after one epoch of {name}",
        "Adagrad ≈ Adam, well under Nesterov, SGD the highest",
        ", ".join(f"{optimizer} {loss:.4f}" for optimizer, loss in losses.items()),
        high - low < losses["Nesterov"] - high
        and high <= WELL_UNDER * losses["Nesterov"]
        and losses["SGD"] == max(losses.values()),
    )


REPRODUCTIONS: dict[str, Callable[[Path | None], Iterator[Check]]] = {
    "Wilson et al. 2017": wilson,
    "Reddi et al. 2018": reddi,
    "Logistic regression on a9a": a9a,
    "Adam paper, 20 Newsgroups": partial(words, " and ".join(GROUPS), group_texts),
    "Adam paper, SMS spam": partial(words, "SMS spam", messages),
}


def run(data_home: Path | None, console: Console) -> bool:
    """Runs all reproductions, prints the table and returns True if nothing missed."""
    table = Table("claim", "expected", "measured", "")
    every = True
    for name, reproduction in REPRODUCTIONS.items():
        with console.status(name):
            try:
                for check in reproduction(data_home):
                    every &= check.hit
                    verdict = "hit" if check.hit else "[bold]missed[/bold]"
                    table.add_row(check.claim, check.expected, check.measured, verdict)
            except Absent as absent:
                table.add_row(name, "", f"skipped: {absent}", "skipped")
    console.print(table)
    return every


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs the experiment from the command line.

    Returns:
        0 if every claim that was measured was hit, 1 if one was missed, 2 if the data
        cannot be used.
    """
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data-home",
        type=Path,
        metavar="DIR",
        help="folder with a9a.bz2, a9a.t.bz2, SMSSpamCollection and "
        f"{newsgroups.CACHE_NAME}",
    )
    folder = parser.parse_args(argv).data_home

    def command() -> int:
        if folder and not folder.is_dir():
            raise InputError(f"--data-home {folder} is not a folder.")
        return 0 if run(folder, Console()) else 1

    return exit_status(command)


if __name__ == "__main__":
    sys.exit(main())
