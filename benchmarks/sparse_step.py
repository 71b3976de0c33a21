"""Time of one optimizer step with a sparse gradient, side by side with Keras and torch.

    python benchmarks/sparse_step.py
    python benchmarks/sparse_step.py --training
    python benchmarks/sparse_step.py --quick --output /tmp/results

A step is `optimizer.apply` on one table in a `tf.function`, with a gradient of so many
row ids drawn anew for every step; with `--training` the forward pass of an `Embedding`
on these ids, and its gradient, are part of it. Ids are drawn uniformly (so that all
tables have about as many touched rows, and only the height differs) or by Zipf's law,
and repeat within a batch as chance has it. torch's SparseAdam, where torch is
installed, does the same eagerly, on one thread: two were a fifth faster on an idle
machine of two cores, and many times slower on a busy one.

The optimizers of one family, on all tables, take turns within a round, in random order;
a sample is the mean over enough consecutive steps to last 50 ms. Numbers are medians
over the rounds, with quartiles; ratios are taken within a round.
"""

import argparse
import gc
import importlib.util
import os
import platform
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import matplotlib  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import tensorflow as tf  # noqa: E402

import keras_adaptive  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

LEARNING_RATE = 1e-3
BATCHES = 256
SAMPLE_SECONDS = 0.05
FAMILIES = ["SGD", "Adagrad", "RMSprop", "Adam", "AdamW", "Ftrl"]
OURS = {
    "deferred": {"sparse": "deferred"},
    "lazy": {"sparse": "lazy"},
    "deferred, row-wise": {"sparse": "deferred", "row_wise": True},
}
COLORS = {
    "Keras": "tab:red",
    "torch": "tab:orange",
    "deferred": "tab:blue",
    "lazy": "tab:green",
    "deferred, row-wise": "tab:purple",
}
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


class Table(NamedTuple):
    rows: int
    width: int

    @classmethod
    def parse(cls, text: str) -> "Table":
        rows, width = text.split("x")
        return cls(int(float(rows)), int(width))

    def __str__(self) -> str:
        power = len(str(self.rows)) - 1
        if self.rows == 10**power:
            return f"10{str(power).translate(SUPERSCRIPTS)} × {self.width}"
        return f"{self.rows:,} × {self.width}"


class Problem:
    """A table and gradients for it: ids differ from step to step, values do not."""

    def __init__(self, table: Table, ids: int, distribution: str):
        generator = np.random.default_rng(0)
        shape = BATCHES, ids
        if distribution == "uniform":
            self.ids = generator.integers(table.rows, size=shape)
        else:
            # The probability of a rank is about 1 / rank; ranks lie scattered.
            ranks = (table.rows ** generator.random(shape)).astype(int) - 1
            self.ids = generator.permutation(table.rows)[ranks]
        self.values = generator.normal(size=(ids, table.width)).astype("float32")
        self.table = table
        self.variable = keras.Variable(keras.ops.zeros(table), name="table")

    def distinct_rows(self) -> float:
        return float(np.mean([len(np.unique(batch)) for batch in self.ids]))


def keras_steps(
    optimizer: keras.optimizers.Optimizer, problem: Problem, training: bool
) -> Iterator:
    optimizer.build([problem.variable])
    ids, values = tf.constant(problem.ids), tf.constant(problem.values)
    shape = tf.constant(problem.table, tf.int64)

    @tf.function
    def step(batch):
        gradient = tf.IndexedSlices(values, ids[batch], shape)
        if training:
            with tf.GradientTape() as tape:
                rows = keras.ops.take(problem.variable, ids[batch], axis=0)
                loss = tf.reduce_sum(tf.square(rows - values)) / 2
            gradient = tape.gradient(loss, problem.variable.value)
        optimizer.apply([gradient], [problem.variable])

    batches = [tf.constant(batch) for batch in range(BATCHES)]
    while True:
        for batch in batches:
            yield step(batch)


def torch_steps(problem: Problem) -> Iterator:
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


def contenders(family: str, training: bool) -> dict[str, Callable[[Problem], Iterator]]:
    """The optimizers of one family, by label, as makers of endless steps."""

    def maker(module, **arguments):
        cls = getattr(module, family)
        return lambda problem: keras_steps(
            cls(LEARNING_RATE, **arguments), problem, training
        )

    found = {"Keras": maker(keras.optimizers)}
    if hasattr(keras_adaptive.optimizers, family):
        for label, arguments in OURS.items():
            found[label] = maker(keras_adaptive.optimizers, **arguments)
    if family == "Adam" and not training and importlib.util.find_spec("torch"):
        found["torch"] = torch_steps
    return found


@dataclass
class Sampler:
    """Takes samples of the time of one optimizer's step on one table."""

    steps: Iterator
    steps_a_sample: int = 1
    milliseconds: list[float] = field(default_factory=list)

    def warm_up(self) -> float:
        """Compiles, sets the length of a sample, and returns it in seconds."""
        for _ in range(3):
            next(self.steps)
        seconds = min(self.seconds_a_step() for _ in range(3))
        self.steps_a_sample = max(1, round(SAMPLE_SECONDS / seconds))
        return seconds * self.steps_a_sample

    def seconds_a_step(self) -> float:
        start = time.perf_counter()
        for _ in range(self.steps_a_sample):
            next(self.steps)
        return (time.perf_counter() - start) / self.steps_a_sample

    def sample(self) -> None:
        next(self.steps)  # the first one may find the table as another left it
        self.milliseconds.append(1000 * self.seconds_a_step())


def measure(
    family: str, problems: list[Problem], seconds: float, training: bool
) -> pd.DataFrame:
    """Milliseconds a step, one row a round, one column a (label, table)."""
    samplers = {
        (label, problem.table): Sampler(make(problem))
        for problem in problems
        for label, make in contenders(family, training).items()
    }
    round_seconds = sum(sampler.warm_up() for sampler in samplers.values())
    rounds = int(np.clip(seconds / round_seconds, 5, 40))
    order = random.Random(0)
    for _ in range(rounds):
        for sampler in order.sample(list(samplers.values()), k=len(samplers)):
            sampler.sample()
    print(f"{family}: {rounds} rounds of {round_seconds:.1f} s", flush=True)
    return pd.DataFrame(
        {key: sampler.milliseconds for key, sampler in samplers.items()}
    )


def summarize(family: str, samples: pd.DataFrame) -> pd.DataFrame:
    """Quartiles of time, of Keras's time / time, and of growth from the first table."""
    records = []
    first_table = samples.columns[0][1]
    for label, table in samples.columns:
        time_a_step = samples[label, table]
        measured = {
            "milliseconds": time_a_step,
            "times_as_fast": samples["Keras", table] / time_a_step,
            "growth": time_a_step / samples[label, first_table],
        }
        records.append(
            {
                "family": family,
                "label": label,
                "table": str(table),
                "rows": table.rows,
                "width": table.width,
                "rounds": len(samples),
            }
            | {
                f"{name}_{quartile}": values.quantile(q)
                for name, values in measured.items()
                for quartile, q in [("q1", 0.25), ("median", 0.5), ("q3", 0.75)]
            }
        )
    return pd.DataFrame(records)


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 99.5 else f"{value:#.2g}".rstrip(".")


def with_spread(row: pd.Series, name: str) -> str:
    low, middle, high = (number(row[f"{name}_{q}"]) for q in ("q1", "median", "q3"))
    return f"{middle} ({low}–{high})"


def time_and_ratio(row: pd.Series) -> str:
    cell = with_spread(row, "milliseconds")
    if row.label == "Keras":
        return cell
    return f"{cell}, {number(row.times_as_fast_median)}×"


def title(family: str, label: str) -> str:
    if label == "torch":
        return f"torch Sparse{family}"
    return f"Keras {family}" if label == "Keras" else f"{family}, {label}"


def markdown(summary: pd.DataFrame, cell: Callable[[pd.Series], str]) -> str:
    """A table with a row for each optimizer and a column for each table."""
    tables = list(dict.fromkeys(summary["table"]))
    lines = [f"| optimizer | {' | '.join(tables)} |", "|---" * (1 + len(tables)) + "|"]
    for (family, label), rows in summary.groupby(["family", "label"], sort=False):
        cells = " | ".join(cell(row) for _, row in rows.iterrows())
        lines.append(f"| {title(family, label)} | {cells} |")
    return "\n".join(lines) + "\n"


def plot(summary: pd.DataFrame, path: Path) -> None:
    """A panel for each family; tables of another width than the first stand apart."""
    families = [
        family for family in FAMILIES if hasattr(keras_adaptive.optimizers, family)
    ]
    figure, axes = plt.subplots(
        1, len(families), figsize=(3.2 * len(families), 3.6), sharey=True
    )
    width, *others = summary["width"].unique()
    axis = f"rows of the table, {width} wide"
    if others:
        axis += f" (◆ {', '.join(map(str, others))})"
    for panel, family in zip(axes, families, strict=True):
        curves = summary[summary["family"] == family]
        for label, curve in curves.groupby("label", sort=False):
            for part, style in [
                (curve[curve["width"] == width], "o-"),
                (curve[curve["width"] != width], "D"),
            ]:
                middle = part["milliseconds_median"]
                panel.errorbar(
                    part["rows"],
                    middle,
                    yerr=[
                        middle - part["milliseconds_q1"],
                        part["milliseconds_q3"] - middle,
                    ],
                    fmt=style,
                    markersize=4,
                    color=COLORS[label],
                    label=label if style == "o-" else None,
                )
        panel.set(xscale="log", yscale="log", title=family, xlabel=axis)
        panel.grid(alpha=0.3)
    axes[0].set_ylabel("ms a step")
    handles = {
        label: handle
        for panel in axes
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles)
    )
    figure.set_layout_engine("constrained")
    figure.savefig(path, dpi=120)


def machine() -> str:
    info = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (info.read_text().splitlines() if info.exists() else [])
        if line.startswith("model name")
    ]
    versions = [f"Keras {keras.__version__}", f"TensorFlow {tf.__version__}"]
    if importlib.util.find_spec("torch"):
        versions.append(f"torch {metadata.version('torch')}")
    return (
        f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores; "
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--tables",
        nargs="+",
        type=Table.parse,
        metavar="ROWSxWIDTH",
        default=[
            Table(10**4, 64),
            Table(10**5, 64),
            Table(10**6, 64),
            Table(10**7, 16),
        ],
    )
    parser.add_argument("--ids", type=int, default=1024, help="ids a step")
    parser.add_argument(
        "--distribution", choices=["uniform", "zipf"], default="uniform"
    )
    parser.add_argument(
        "--seconds", type=float, default=90, help="for each family; at least 5 rounds"
    )
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results"
    )
    parser.add_argument(
        "--readme", type=Path, help="page to put the table into, between its markers"
    )
    parser.add_argument(
        "--training",
        action="store_true",
        help="with the forward pass of an Embedding and its gradient",
    )
    parser.add_argument(
        "--quick", action="store_true", help="two small tables, for a few seconds"
    )
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.tables = [Table(10**3, 16), Table(10**4, 16)]
        arguments.seconds = 3

    about = machine()
    print(about)
    problems = [
        Problem(table, arguments.ids, arguments.distribution)
        for table in arguments.tables
    ]
    parts = []
    for family in FAMILIES:
        samples = measure(family, problems, arguments.seconds, arguments.training)
        parts.append(summarize(family, samples))
        gc.collect()
    summary = pd.concat(parts, ignore_index=True)

    distinct = ", ".join(f"{p.table}: {p.distinct_rows():.0f}" for p in problems)
    setting = (
        f"{arguments.ids:,} ids a step, {arguments.distribution}; distinct rows in a "
        f"batch: {distinct}; {summary['rounds'].min()} to {summary['rounds'].max()} "
        f"rounds. {about}.\n"
    )
    times = markdown(summary, time_and_ratio)
    rivals = summary[summary["label"] != "Keras"]
    larger = summary[summary["table"] != str(problems[0].table)]
    caption = "Milliseconds a step, median (quartiles), and how many times as fast as "
    page = (
        f"{setting}\n{caption}Keras's optimizer of the same name:\n\n{times}\n"
        "Times as fast as Keras, median (quartiles) of the ratio within a round:\n\n"
        f"{markdown(rivals, lambda row: with_spread(row, 'times_as_fast'))}\n"
        f"Time relative to {problems[0].table}, median (quartiles):\n\n"
        f"{markdown(larger, lambda row: with_spread(row, 'growth'))}"
    )
    arguments.output.mkdir(parents=True, exist_ok=True)
    name = "training_step" if arguments.training else "sparse_step"
    summary.to_csv(arguments.output / f"{name}.csv", index=False, float_format="%.4g")
    plot(summary, arguments.output / f"{name}.png")
    (arguments.output / f"{name}.md").write_text(f"# {name}\n\n{page}")
    if arguments.readme:
        text = arguments.readme.read_text(encoding="utf-8")
        begin, end = f"<!-- benchmark:{name} -->\n", f"<!-- /benchmark:{name} -->"
        before, rest = text.split(begin)
        after = rest.split(end)[1]
        block = f"{setting}\n{caption}Keras's optimizer of the same name:\n\n{times}"
        arguments.readme.write_text(
            f"{before}{begin}{block}{end}{after}", encoding="utf-8"
        )
    print(page)


if __name__ == "__main__":
    main()
