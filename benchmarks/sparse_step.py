"""Time of one optimizer step with a sparse gradient, compared with peers.

    python -m benchmarks.sparse_step
    python -m benchmarks.sparse_step --backends torch --tables 1e4x64 1e5x64
    python -m benchmarks.sparse_step --training --families Adam
    python -m benchmarks.sparse_step --quick --output /tmp/results

A step is `optimizer.apply` on one table: on TensorFlow in a `tf.function`, on PyTorch
as it stands, on JAX under `jax.jit`. The row ids of the gradient are drawn anew for
every step, by Zipf's law or uniformly, so that all tables have about as many touched
rows and differ in height alone. They may repeat within a batch. Where the gradient of
an `Embedding` is dense, it is the same in each step; see `sparse_contenders.py`.

With `--training` a step includes the forward pass of an `Embedding` on these ids, and
its gradient, on TensorFlow.

torch's SparseAdam and optax's Adam take part if they are installed. The "bare
operations" are those that no Adam made of TensorFlow's operations can avoid: find the
distinct rows, gather and scatter them for the table and two slots.

The optimizers of one family on one backend take turns on all tables. On a table of more
than a gigabyte, each has a process of its own; see `on_tables.py`.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import pandas as pd

from benchmarks import backends, harness, on_tables
from benchmarks.on_tables import Table
from benchmarks.sparse_contenders import FAMILIES, Problem, contenders

COLORS = harness.COLORS | {
    "deferred": "tab:blue",
    "lazy": "tab:green",
    "deferred, row-wise": "tab:purple",
    "dense": "tab:cyan",
    "bare operations": "tab:gray",
}
LOW = [Table(10**4, 64), Table(10**5, 64), Table(10**6, 64)]
TABLES = {
    "tensorflow": [*LOW, Table(10**7, 16)],
    "torch": [*LOW, Table(10**7, 64)],
    "jax": [*LOW, Table(10**7, 16)],
}
QUICK_TABLES = [Table(10**3, 16), Table(10**4, 16)]


class Setting(NamedTuple):
    """What all contenders have in common."""

    ids: int
    distribution: str
    training: bool = False


@functools.cache
def problem(table: Table, setting: Setting) -> Problem:
    """Returns a table and its gradients, which the contenders share."""
    return Problem(table, setting.ids, setting.distribution)


def steps(label: str, family: str, table: Table, setting: Setting) -> Iterator[Any]:
    """Returns endless steps of a contender on the backend of the process."""
    backend = keras.backend.backend()
    makers = contenders(backend, family, setting.training)
    return makers[label](problem(table, setting))


def measure(
    backend: str,
    family: str,
    tables: Sequence[Table],
    setting: Setting,
    seconds: float,
) -> pd.DataFrame:
    """Measures one family on one backend, and returns the quartiles."""
    columns = {
        (label, table): (label, family, table, setting)
        for table in tables
        for label in contenders(backend, family, setting.training)
    }
    samples = on_tables.measure(backend, steps, columns, seconds)
    summary = on_tables.summarize(samples, "Keras")
    names = [title(family, label) for label in summary["label"]]
    summary.insert(0, "backend", backends.BACKENDS[backend])
    summary.insert(1, "optimizer", names)
    summary.insert(2, "family", family)
    return summary


def title(family: str, label: str) -> str:
    """Returns the name of an optimizer in tables."""
    names = {
        "bare operations": "unique, gather, scatter alone",
        "torch": f"torch Sparse{family}",
        "optax": f"optax {family.lower()}, jit",
        "Keras": f"Keras {family}",
    }
    return names.get(label, f"{family}, {label}")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = harness.parser(__doc__)
    backends.add_option(parser)
    families = FAMILIES["tensorflow"]
    parser.add_argument(
        "--families",
        nargs="+",
        choices=families,
        default=families,
        metavar="NAME",
        help="on PyTorch and JAX there is only Adam",
    )
    on_tables.add_option(parser)
    parser.add_argument("--ids", type=int, default=1024, help="ids a step")
    parser.add_argument(
        "--distribution", choices=["uniform", "zipf"], default="uniform"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        help="for each backend and family; at least 5 rounds (default: 20)",
    )
    parser.add_argument(
        "--training",
        action="store_true",
        help="with the forward pass of an Embedding and its gradient, on TensorFlow",
    )
    options = parser.parse_args(argv)
    setting = Setting(options.ids, options.distribution, options.training)
    seconds = options.seconds or (0 if options.quick else 20)
    default = dict.fromkeys(TABLES, QUICK_TABLES) if options.quick else TABLES
    tables = {
        backend: options.tables or default[backend]
        for backend in (["tensorflow"] if options.training else options.backends)
    }
    parts = [
        measure(backend, family, tables[backend], setting, seconds)
        for backend in tables
        for family in options.families
        if family in FAMILIES[backend]
    ]
    every = [*dict.fromkeys(table for each in tables.values() for table in each)]
    report(pd.concat(parts, ignore_index=True), every, setting).publish(options)


def report(
    summary: pd.DataFrame, tables: Sequence[Table], setting: Setting
) -> harness.Report:
    """Returns the measurements in words, tables and a plot."""

    def by_backend(part: pd.DataFrame, cell: Callable[[pd.Series], str]) -> str:
        return harness.sections(
            part,
            "backend",
            lambda one: harness.markdown(one, "optimizer", "table", cell),
        )

    touched = ", ".join(
        f"{table}: {problem(table, setting).distinct_rows():.0f}" for table in tables
    )
    lead = (
        f"{setting.ids:,} ids a step, {setting.distribution}; distinct rows in a "
        f"batch: {touched}; {on_tables.conditions(summary, tables)}\n\n"
        "Milliseconds a step, and how many times as fast as Keras's optimizer of the "
        "same name on the same backend, median (quartiles).\n\n"
    )
    larger = summary[summary["table"] != str(tables[0])]
    page = (
        f"{lead}{by_backend(summary, harness.time_and_ratio)}\n"
        f"Time relative to {tables[0]}, median (quartiles).\n\n"
        f"{by_backend(larger, on_tables.growth)}"
    )
    name = "training_step" if setting.training else "sparse_step"
    adam = summary[summary["family"] == "Adam"]
    excerpt = f"{lead}{by_backend(adam, harness.time_and_ratio)}"
    panels = summary.assign(panel=summary["family"] + ", " + summary["backend"])
    figure = on_tables.plot(panels, "panel", COLORS)
    return harness.Report(name, summary, page, figure, {f"{name}:Adam": excerpt})


if __name__ == "__main__":
    main()
