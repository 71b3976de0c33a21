"""Time of a training step of a model with a large embedding, by its layer.

    python -m benchmarks.embedding_layer
    python -m benchmarks.embedding_layer --backends torch --tables 1e5x64 1e6x64

A step is `model.train_on_batch` on texts of a few ids: their rows of a table, the mean
over a text, and a dense layer. The ids are drawn anew for every step, uniformly. With
TensorFlow, `keras.layers.Embedding` has sparse gradients, too, but reads rows that are
behind; our layer reads them as they are after all steps. With PyTorch, the gradient of
Keras's layer has the shape of the table.

The contenders on one backend take turns on all tables. On a table of more than a
gigabyte, each has a process of its own; see `on_tables.py`.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd

import keras_adaptive
from benchmarks import backends, harness, on_tables
from benchmarks.on_tables import Table
from benchmarks.sparse_contenders import BATCHES, LEARNING_RATE

TABLES = [Table(10**5, 64), Table(10**6, 64), Table(10**7, 64)]
QUICK_TABLES = [Table(10**3, 16), Table(10**4, 16)]
TEXTS, LENGTH = 128, 8


class Contender(NamedTuple):
    """A layer and an optimizer, by whether they are Keras's or ours."""

    layer: str
    optimizer: str

    def model(self, table: Table) -> keras.Model:
        """Returns the model, compiled."""
        of = {"Keras": keras, "ours": keras_adaptive}
        embedding, adam = of[self.layer].layers.Embedding, of[self.optimizer].optimizers
        model = keras.Sequential(
            [
                keras.Input((LENGTH,), dtype="int32"),
                embedding(*table, embeddings_initializer="zeros"),
                keras.layers.GlobalAveragePooling1D(),
                keras.layers.Dense(1, activation="sigmoid"),
            ]
        )
        model.compile(adam.Adam(LEARNING_RATE), "binary_crossentropy")
        return model

    def __str__(self) -> str:
        layer = "Keras's layer" if self.layer == "Keras" else "our layer"
        adam = "Keras Adam" if self.optimizer == "Keras" else "Adam, deferred"
        return f"{adam}, {layer}"


REFERENCE = Contender("Keras", "Keras")
SAME_OPTIMIZER = Contender("Keras", "ours")
OURS = Contender("ours", "ours")
CONTENDERS = {
    "tensorflow": [REFERENCE, SAME_OPTIMIZER, OURS],
    "torch": [REFERENCE, OURS],
}
COLORS = {
    str(REFERENCE): "tab:red",
    str(SAME_OPTIMIZER): "tab:purple",
    str(OURS): "tab:blue",
}


def steps(contender: Contender, table: Table) -> Iterator[Any]:
    """Yields training steps."""
    ids = on_tables.drawn(table, (BATCHES, TEXTS, LENGTH), "uniform").astype("int32")
    labels = (ids.sum(axis=2) % 2).astype("float32")[..., None]
    model = contender.model(table)
    for batch in itertools.cycle(range(BATCHES)):
        yield model.train_on_batch(ids[batch], labels[batch])


def measure(backend: str, tables: Sequence[Table], seconds: float) -> pd.DataFrame:
    """Measures one backend, and returns the quartiles.

    Beside the time and its growth these are of the time over that with Keras's layer
    and the same optimizer.
    """
    columns = {
        (str(contender), table): (contender, table)
        for table in tables
        for contender in CONTENDERS[backend]
    }
    samples = on_tables.measure(backend, steps, columns, seconds)
    summary = on_tables.summarize(samples, str(REFERENCE))
    summary.insert(0, "backend", backends.BACKENDS[backend])
    spreads = [
        harness.quartiles(over_keras_layer=over_keras_layer(samples, *column))
        for column in columns
    ]
    return summary.join(pd.DataFrame(spreads))


def over_keras_layer(samples: pd.DataFrame, label: str, table: Table) -> pd.Series:
    """Returns the time with our layer over that with Keras's and the same optimizer."""
    if label != str(OURS) or (str(SAME_OPTIMIZER), table) not in samples:
        return pd.Series([np.nan])
    return samples[label, table] / samples[str(SAME_OPTIMIZER), table]


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = harness.parser(__doc__)
    backends.add_option(parser, list(CONTENDERS))
    on_tables.add_option(parser)
    parser.add_argument(
        "--seconds",
        type=float,
        help="for each backend; at least 5 rounds (default: 30)",
    )
    options = parser.parse_args(argv)
    tables = options.tables or (QUICK_TABLES if options.quick else TABLES)
    seconds = options.seconds or (0 if options.quick else 30)
    parts = [measure(backend, tables, seconds) for backend in options.backends]
    report(pd.concat(parts, ignore_index=True), tables).publish(options)


def report(summary: pd.DataFrame, tables: Sequence[Table]) -> harness.Report:
    """Returns the measurements in words, tables and a plot."""

    def by_backend(part: pd.DataFrame, cell: Callable[[pd.Series], str]) -> str:
        return harness.sections(
            part,
            "backend",
            lambda one: harness.markdown(one, "contender", "table", cell),
        )

    summary = summary.assign(contender=summary["label"])
    larger = summary[summary["table"] != str(tables[0])]
    page = (
        f"Batches of {TEXTS} texts with {LENGTH} ids each, uniform; an Embedding, the "
        "mean over a text, a Dense layer; `train_on_batch`; "
        f"{on_tables.conditions(summary, tables)}\n\n"
        "Milliseconds a step, and how many times as fast as with Keras's layer and "
        "Keras's Adam, median (quartiles).\n\n"
        f"{by_backend(summary, harness.time_and_ratio)}\n"
    )
    ours = summary[summary["over_keras_layer_median"].notna()]
    if len(ours):
        page += (
            "Time over that with Keras's layer and the same deferred Adam, median "
            f"(quartiles).\n\n{by_backend(ours, ratio)}\n"
        )
    page += (
        f"Time relative to {tables[0]}, median (quartiles).\n\n"
        f"{by_backend(larger, on_tables.growth)}"
    )
    figure = on_tables.plot(summary, "backend", COLORS)
    return harness.Report("embedding_layer", summary, page, figure)


def ratio(row: pd.Series) -> str:
    """Formats the time over that with Keras's layer."""
    return harness.with_spread(row, "over_keras_layer")


if __name__ == "__main__":
    main()
