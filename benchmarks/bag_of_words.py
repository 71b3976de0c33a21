"""Time of `fit` on a bag of words: 20 Newsgroups, all words, a hidden layer of 64.

    python -m benchmarks.bag_of_words
    python -m benchmarks.bag_of_words --data-home FOLDER --rounds 10

In each round every contender trains a new model from the same initial weights. The
first epoch compiles. The next epochs are timed as one call of `fit`, from its start
until it calls `on_train_end`, and the model is evaluated. The time excludes the removal
of the iterator of Keras's batches. It takes no time or as long as the training, by
chance, since `tf.data` waits for its sleeping tuning thread.

Contenders that compute the gradients but update nothing show the time that no optimizer
can save. A synthetic corpus of the same shape replaces texts that cannot be found.
"""

import gc
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from scipy import sparse

from benchmarks import harness
from keras_adaptive import layers, optimizers
from keras_adaptive.datasets.batches import training_batches
from keras_adaptive.datasets.dataset import Dataset, Split
from keras_adaptive.datasets.newsgroups import load_newsgroups
from keras_adaptive.errors import InputError

LEARNING_RATE = 3e-3
BATCH_SIZE = 128
HIDDEN = 64
ALL_WORDS = 10**7
STEPS = 8
REFERENCE = "Keras Adam, Dense, fit(csr)"


class NoUpdate(keras.optimizers.SGD):
    """Waits for the gradients and leaves the variables unchanged."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Adds 0 to the iterations, computed from the gradient."""
        values = tf.reshape(getattr(gradient, "values", gradient), [-1])
        # TensorFlow prunes the gradient if no value depends on it.
        self.iterations.assign_add(tf.cast(values[0] > 1e30, self.iterations.dtype))


class Clock(keras.callbacks.Callback):
    """Measures the time from its construction to the end of training."""

    def __init__(self) -> None:
        super().__init__()
        self.start = time.perf_counter()
        self.seconds = 0.0

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Stops the clock."""
        self.seconds = time.perf_counter() - self.start


def fit_csr(model: keras.Model, part: Split, epochs: int, seed: int) -> float:
    """Trains on a CSR matrix and returns the seconds."""
    clock = Clock()
    model.fit(*part, batch_size=BATCH_SIZE, epochs=epochs, verbose=0, callbacks=[clock])
    return clock.seconds


def fit_batches(model: keras.Model, part: Split, epochs: int, seed: int) -> float:
    """Trains on `training_batches` and returns the seconds."""
    clock = Clock()
    model.fit(
        training_batches(part, BATCH_SIZE, seed),
        epochs=epochs,
        steps_per_epoch=-(-len(part.y) // BATCH_SIZE),
        shuffle=False,
        verbose=0,
        callbacks=[clock],
    )
    return clock.seconds


class Contender(NamedTuple):
    """An optimizer, the hidden layer and the way to feed the rows."""

    optimizer: type[keras.optimizers.Optimizer]
    layer: type[keras.layers.Dense]
    fit: Callable[[keras.Model, Split, int, int], float]
    steps_per_execution: int = 1

    def model(self, data: Dataset, seed: int) -> keras.Model:
        """Makes the compiled model."""
        keras.utils.set_random_seed(seed)
        words = keras.Input((data.features,), sparse=True)
        hidden = self.layer(HIDDEN, activation="relu")(words)
        model = keras.Model(words, keras.layers.Dense(len(data.classes))(hidden))
        model.compile(
            self.optimizer(LEARNING_RATE),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            steps_per_execution=self.steps_per_execution,
            jit_compile=False,  # XLA cannot compile Dense on a sparse input
        )
        return model

    def train(self, data: Dataset, epochs: int, seed: int) -> tuple[float, float]:
        """Returns the seconds of an epoch, and the final validation accuracy."""
        keras.backend.clear_session()
        gc.collect()
        model = self.model(data, seed)
        self.fit(model, data.train, 1, seed)
        seconds = self.fit(model, data.train, epochs, seed + 1) / epochs
        return seconds, model.evaluate(*data.validation, verbose=0)[1]


CONTENDERS = {
    REFERENCE: Contender(keras.optimizers.Adam, keras.layers.Dense, fit_csr),
    "Adam, Dense, fit(csr)": Contender(optimizers.Adam, keras.layers.Dense, fit_csr),
    "no update, Dense, fit(csr)": Contender(NoUpdate, keras.layers.Dense, fit_csr),
    "Adam, SparseDense, training_batches": Contender(
        optimizers.Adam, layers.SparseDense, fit_batches
    ),
    f"the same, {STEPS} steps a call": Contender(
        optimizers.Adam, layers.SparseDense, fit_batches, STEPS
    ),
    f"no update, the same, {STEPS} steps a call": Contender(
        NoUpdate, layers.SparseDense, fit_batches, STEPS
    ),
}


def synthetic(rows: int, features: int, words: int = 140, classes: int = 20) -> Dataset:
    """Makes texts with Zipf's law, in which 30 % of the words depend on the class."""

    def part(rows: int, seed: int) -> Split:
        generator = np.random.default_rng(seed)
        y = generator.integers(classes, size=rows)
        ranks = (features ** generator.random((rows, words))).astype(int) - 1
        told = generator.random((rows, words)) < 0.3
        columns = np.where(told, ranks // classes * classes + y[:, None], ranks)
        x = sparse.csr_matrix(
            (
                np.full(rows * words, words**-0.5, np.float32),
                np.minimum(columns, features - 1).ravel(),
                np.arange(0, rows * words + 1, words),
            ),
            shape=(rows, features),
        )
        x.sum_duplicates()
        return Split(x, y)

    return Dataset(
        "made up",
        "the benchmark",
        part(rows, 0),
        part(-(-rows // 9), 1),
        part(-(-rows // 9), 2),
        classes=tuple(f"class {k}" for k in range(classes)),
    )


def load(data_home: Path | None) -> Dataset:
    """Returns 20 Newsgroups with all words, or a synthetic corpus of its shape."""
    try:
        return load_newsgroups(ALL_WORDS, data_home, headers=True)
    except InputError as error:
        print(f"{error} Made-up texts take their place.", flush=True)
        return synthetic(rows=10_183, features=125_000)


def summarize(samples: pd.DataFrame) -> pd.DataFrame:
    """Returns the quartiles over the rounds.

    Args:
        samples: Columns `contender`, `seconds` and `accuracy`; a row for each contender
            and round, with the rounds in order.
    """
    rounds = {
        name: part.reset_index(drop=True)
        for name, part in samples.groupby("contender", sort=False)
    }
    reference = rounds[REFERENCE]
    return pd.DataFrame(
        {"contender": name, "epoch": "an epoch", "rounds": len(rounds[name])}
        | harness.quartiles(
            seconds=rounds[name]["seconds"],
            times_as_fast=reference["seconds"] / rounds[name]["seconds"],
            accuracy=rounds[name]["accuracy"],
        )
        for name in CONTENDERS
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = harness.parser(__doc__)
    parser.add_argument(
        "--data-home", type=Path, metavar="DIR", help="folder with scikit-learn's cache"
    )
    parser.add_argument("--rounds", type=int, help="default: 10")
    parser.add_argument("--epochs", type=int, default=3, help="timed in each round")
    options = parser.parse_args(argv)
    data = synthetic(300, 2000) if options.quick else load(options.data_home)
    rounds = options.rounds or (2 if options.quick else 10)
    about = f"{data.describe()}; batches of {BATCH_SIZE}, hidden layer of {HIDDEN}"
    print(about, flush=True)

    gc.collect()
    gc.freeze()  # Without it, a collection takes longer than an epoch.
    seeds = dict.fromkeys(CONTENDERS, 0)
    records = []
    for name in harness.in_turns(CONTENDERS, rounds):
        seconds, accuracy = CONTENDERS[name].train(data, options.epochs, seeds[name])
        seeds[name] += 1
        records.append({"contender": name, "seconds": seconds, "accuracy": accuracy})
    summary = summarize(pd.DataFrame(records))

    def percent(value: float) -> str:
        return f"{100 * value:.1f}"

    table = harness.listing(
        summary,
        {
            "optimizer, layer, input": lambda row: row.contender,
            "seconds an epoch": lambda row: harness.with_spread(row, "seconds"),
            "times as fast": lambda row: harness.with_spread(row, "times_as_fast"),
            "validation accuracy, %": lambda row: harness.with_spread(
                row, "accuracy", percent
            ),
        },
    )
    page = (
        f"{about}; learning rate {LEARNING_RATE}; accuracy after "
        f"{1 + options.epochs} epochs; {harness.rounds_of(summary)}, another seed in "
        f"each. {harness.machine()}.\n\nMedian (quartiles):\n\n{table}"
    )
    figure = harness.bars(summary, "contender", "epoch", "seconds", "seconds")
    harness.Report("bag_of_words", summary, page, figure).publish(options)


if __name__ == "__main__":
    main()
