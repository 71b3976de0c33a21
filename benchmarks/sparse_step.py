"""Time of one optimizer step with a sparse gradient, compared with Keras and torch.

    python -m benchmarks.sparse_step
    python -m benchmarks.sparse_step --training --families Adam
    python -m benchmarks.sparse_step --quick --output /tmp/results

A step is `optimizer.apply` on one table in a `tf.function`. The row ids of the gradient
are drawn anew for every step. With `--training` a step includes the forward pass of an
`Embedding` on these ids, and its gradient. Ids are drawn by Zipf's law or uniformly, so
that all tables have about as many touched rows and differ in height alone. They may
repeat within a batch.

torch's SparseAdam takes part if torch is installed. It runs eagerly on one thread: two
threads were a fifth faster on an idle machine of two cores, and many times slower on a
busy one. The "bare operations" are those that no Adam made of TensorFlow's operations
can avoid: find the distinct rows, gather and scatter them for the table and two slots.

The optimizers of one family take turns on all tables; see `harness.py`.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tensorflow as tf

import keras_adaptive
from benchmarks import harness
from keras_adaptive.optimizers.engine.tensorflow import rows

LEARNING_RATE = 1e-3
BATCHES = 256
FAMILIES = ["SGD", "Adagrad", "RMSprop", "Adam", "AdamW", "Ftrl"]
OURS: dict[str, dict[str, Any]] = {
    "deferred": {"sparse": "deferred"},
    "lazy": {"sparse": "lazy"},
    "deferred, row-wise": {"sparse": "deferred", "row_wise": True},
}
COLORS = harness.COLORS | {
    "deferred": "tab:blue",
    "lazy": "tab:green",
    "deferred, row-wise": "tab:purple",
    "bare operations": "tab:gray",
}
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


class Table(NamedTuple):
    """The shape of a table."""

    rows: int
    width: int

    @classmethod
    def parse(cls, text: str) -> "Table":
        """Parses a shape such as `1e6x64`."""
        rows, width = text.split("x")
        return cls(int(float(rows)), int(width))

    def __str__(self) -> str:
        power = len(str(self.rows)) - 1
        if self.rows == 10**power:
            return f"10{str(power).translate(SUPERSCRIPTS)} × {self.width}"
        return f"{self.rows:,} × {self.width}"


TABLES = [Table(10**4, 64), Table(10**5, 64), Table(10**6, 64), Table(10**7, 16)]
QUICK_TABLES = [Table(10**3, 16), Table(10**4, 16)]


class Problem:
    """A table and its gradients: ids differ from step to step, values stay the same."""

    def __init__(self, table: Table, ids: int, distribution: str = "uniform") -> None:
        generator = np.random.default_rng(0)
        shape = BATCHES, ids
        if distribution == "uniform":
            self.ids = generator.integers(table.rows, size=shape)
        else:
            # The probability of a rank is about 1 / rank; rows have random ranks.
            ranks = (table.rows ** generator.random(shape)).astype(int) - 1
            self.ids = generator.permutation(table.rows)[ranks]
        self.values = generator.normal(size=(ids, table.width)).astype("float32")
        self.table = table
        self.variable = keras.Variable(keras.ops.zeros(table), name="table")

    def distinct_rows(self) -> float:
        """Returns the mean number of distinct rows in a batch."""
        return float(np.mean([len(np.unique(batch)) for batch in self.ids]))


def keras_steps(
    optimizer: keras.optimizers.Optimizer, problem: Problem, training: bool = False
) -> Iterator[Any]:
    """Yields steps of an optimizer of Keras or of this library."""
    optimizer.build([problem.variable])
    ids, values = tf.constant(problem.ids), tf.constant(problem.values)
    shape = tf.constant(problem.table, tf.int64)

    @tf.function
    def step(batch: tf.Tensor) -> None:
        gradient = tf.IndexedSlices(values, ids[batch], shape)
        if training:
            with tf.GradientTape() as tape:
                rows = keras.ops.take(problem.variable, ids[batch], axis=0)
                loss = tf.reduce_sum(tf.square(rows - values)) / 2
            gradient = tape.gradient(loss, problem.variable.value)
        optimizer.apply([gradient], [problem.variable])

    return endless(step)


def endless(step: Callable[[tf.Tensor], object]) -> Iterator[Any]:
    """Yields a step for each batch, over and over."""
    batches = [tf.constant(batch) for batch in range(BATCHES)]
    while True:
        for batch in batches:
            yield step(batch)


def torch_steps(problem: Problem) -> Iterator[Any]:
    """Yields steps of torch's SparseAdam."""
    import torch

    torch.set_num_threads(1)
    parameter = torch.nn.Parameter(torch.zeros(*problem.table))
    optimizer = torch.optim.SparseAdam([parameter], lr=LEARNING_RATE)
    ids, values = torch.from_numpy(problem.ids), torch.from_numpy(problem.values)
    while True:
        for batch in ids:
            parameter.grad = torch.sparse_coo_tensor(
                batch[None], values, problem.table, check_invariants=False
            )
            yield optimizer.step()


def bare_steps(problem: Problem) -> Iterator[Any]:
    """Yields the operations that no Adam can avoid."""
    tables = [tf.Variable(tf.zeros(problem.table)) for _ in range(3)]
    ids = tf.constant(problem.ids)

    @tf.function(autograph=False)
    def step(batch: tf.Tensor) -> None:
        distinct, _ = tf.unique(ids[batch])
        for table in tables:
            rows.scatter(table, distinct, rows.gather(table, distinct))

    return endless(step)


def contenders(
    family: str, training: bool
) -> dict[str, Callable[[Problem], Iterator[Any]]]:
    """Returns functions that make endless steps of a family's optimizers, by label."""

    def maker(module: Any, **arguments: Any) -> Callable[[Problem], Iterator[Any]]:
        cls = getattr(module, family)
        return lambda problem: keras_steps(
            cls(LEARNING_RATE, **arguments), problem, training
        )

    found = {"Keras": maker(keras.optimizers)}
    ours = getattr(keras_adaptive.optimizers, family)
    for label, arguments in OURS.items():
        if "row_wise" not in arguments or accepts_row_wise(ours):
            found[label] = maker(keras_adaptive.optimizers, **arguments)
    if family == "Adam" and not training:
        if harness.installed("torch"):
            found["torch"] = torch_steps
        found["bare operations"] = bare_steps
    return found


def accepts_row_wise(cls: type) -> bool:
    """Says whether an optimizer can keep one value for each row."""
    try:
        cls(row_wise=True)
    except (TypeError, ValueError):
        return False
    return True


def summarize(family: str, samples: pd.DataFrame) -> pd.DataFrame:
    """Returns quartiles of time, speed relative to Keras and growth of the time.

    The growth is relative to the first table.
    """
    records = []
    first_table = samples.columns[0][1]
    for label, table in samples.columns:
        time_a_step = samples[label, table]
        records.append(
            {
                "optimizer": title(family, label),
                "family": family,
                "label": label,
                "table": str(table),
                "rows": table.rows,
                "width": table.width,
                "rounds": len(samples),
            }
            | harness.quartiles(
                milliseconds=time_a_step,
                times_as_fast=samples["Keras", table] / time_a_step,
                growth=time_a_step / samples[label, first_table],
            )
        )
    return pd.DataFrame(records)


def title(family: str, label: str) -> str:
    """Returns the name of an optimizer in tables."""
    if label == "bare operations":
        return "unique, gather, scatter alone"
    if label == "torch":
        return f"torch Sparse{family}"
    return f"Keras {family}" if label == "Keras" else f"{family}, {label}"


def plot(summary: pd.DataFrame) -> plt.Figure:
    """Draws a panel for each family; markers differ for tables of another width."""
    families = summary["family"].unique()
    figure, axes = plt.subplots(
        1,
        len(families),
        figsize=(max(6, 3.2 * len(families)), 3.6),
        sharey=True,
        squeeze=False,
    )
    width, *others = summary["width"].unique()
    axis = f"rows of the table, {width} wide"
    if others:
        axis += f" (◆ {', '.join(map(str, others))})"
    for panel, family in zip(axes[0], families, strict=True):
        curves = summary[summary["family"] == family]
        for label, curve in curves.groupby("label", sort=False):
            for part, style in [
                (curve[curve["width"] == width], "o-"),
                (curve[curve["width"] != width], "D"),
            ]:
                panel.errorbar(
                    part["rows"],
                    part["milliseconds_median"],
                    yerr=harness.error_bars(part, "milliseconds"),
                    fmt=style,
                    markersize=4,
                    color=COLORS[label],
                    label=label if style == "o-" else None,
                )
        panel.set(xscale="log", yscale="log", title=family, xlabel=axis)
        panel.grid(alpha=0.3)
    axes[0][0].set_ylabel("ms a step")
    handles = {
        label: handle
        for panel in axes[0]
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles)
    )
    figure.set_layout_engine("constrained")
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = harness.parser(__doc__)
    parser.add_argument(
        "--families", nargs="+", choices=FAMILIES, default=FAMILIES, metavar="NAME"
    )
    parser.add_argument(
        "--tables",
        nargs="+",
        type=Table.parse,
        metavar="ROWSxWIDTH",
        help=f"default: {', '.join(f'{rows}x{width}' for rows, width in TABLES)}",
    )
    parser.add_argument("--ids", type=int, default=1024, help="ids a step")
    parser.add_argument(
        "--distribution", choices=["uniform", "zipf"], default="uniform"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        help="for each family; at least 5 rounds (default: 20)",
    )
    parser.add_argument(
        "--training",
        action="store_true",
        help="with the forward pass of an Embedding and its gradient",
    )
    options = parser.parse_args(argv)
    tables = options.tables or (QUICK_TABLES if options.quick else TABLES)
    seconds = options.seconds or (1 if options.quick else 20)

    problems = [Problem(table, options.ids, options.distribution) for table in tables]
    parts = []
    for family in options.families:
        steps = {
            (label, problem.table): make(problem)
            for problem in problems
            for label, make in contenders(family, options.training).items()
        }
        parts.append(summarize(family, harness.measure(steps, seconds)))
        print(f"{family}: {harness.rounds_of(parts[-1])}", flush=True)
        del steps
        gc.collect()
    summary = pd.concat(parts, ignore_index=True)

    def table(part: pd.DataFrame, cell: Callable[[pd.Series], str]) -> str:
        return harness.markdown(part, "optimizer", "table", cell)

    distinct = ", ".join(f"{p.table}: {p.distinct_rows():.0f}" for p in problems)
    setting = (
        f"{options.ids:,} ids a step, {options.distribution}; distinct rows in a "
        f"batch: {distinct}; {harness.rounds_of(summary)}. {harness.machine()}.\n\n"
        "Milliseconds a step, median (quartiles), and how many times as fast as "
        "Keras's optimizer of the same name:\n\n"
    )
    rivals = summary[summary["label"] != "Keras"]
    larger = summary[summary["table"] != str(problems[0].table)]
    page = (
        f"{setting}{table(summary, harness.time_and_ratio)}\n"
        "Times as fast as Keras, median (quartiles) of the ratio within a round:\n\n"
        f"{table(rivals, lambda row: harness.with_spread(row, 'times_as_fast'))}\n"
        f"Time relative to {problems[0].table}, median (quartiles):\n\n"
        f"{table(larger, lambda row: harness.with_spread(row, 'growth'))}"
    )
    name = "training_step" if options.training else "sparse_step"
    adam = summary[summary["family"] == "Adam"]
    excerpt = f"{setting}{table(adam, harness.time_and_ratio)}"
    harness.Report(
        name, summary, page, plot(summary), {f"{name}:Adam": excerpt}
    ).publish(options)


if __name__ == "__main__":
    main()
