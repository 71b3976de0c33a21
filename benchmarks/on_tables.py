"""Tables of any height, and contenders that take turns on them.

Contenders on tables of up to a gigabyte take turns in one process; see `harness.py`. On
a larger table each contender is alone in memory: in each round it has a new process. If
it needs more memory than there is, it ends without a number, and disturbs no other
program of the machine.
"""

import argparse
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from benchmarks import backends, harness

LARGE = 2**30
"""The bytes from which a contender on a table is alone."""

ROUNDS_ALONE = 3
"""The processes of such a contender."""

SAMPLES_ALONE = 5
"""The samples of such a process, of which the median counts."""

SHARE = 0.9
"""The share of the available memory that a process may take."""

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

    @property
    def is_large(self) -> bool:
        """Whether each contender on it is alone in memory."""
        return 4 * self.rows * self.width > LARGE

    def __str__(self) -> str:
        power = len(str(self.rows)) - 1
        if self.rows == 10**power:
            return f"10{str(power).translate(SUPERSCRIPTS)} × {self.width}"
        return f"{self.rows:,} × {self.width}"


def drawn(table: Table, shape: tuple[int, ...], distribution: str) -> np.ndarray:
    """Returns ids of rows, drawn uniformly or by Zipf's law."""
    generator = np.random.default_rng(0)
    if distribution == "uniform":
        return generator.integers(table.rows, size=shape)
    # The probability of a rank is about 1 / rank; rows have random ranks.
    ranks = (table.rows ** generator.random(shape)).astype(int) - 1
    return generator.permutation(table.rows)[ranks]


def add_option(parser: argparse.ArgumentParser) -> None:
    """Adds the option `--tables`."""
    parser.add_argument(
        "--tables",
        nargs="+",
        type=Table.parse,
        metavar="ROWSxWIDTH",
        help="the tables, such as 1e6x64",
    )


# Measurements.


Make = Callable[..., Iterator[Any]]


def memory(field: str, file: str = "/proc/self/status") -> int:
    """Returns the bytes of a field of the kernel's, such as `VmRSS` of this process."""
    (kilobytes,) = re.findall(rf"{field}:\s+(\d+) kB", Path(file).read_text())
    return 1024 * int(kilobytes)


def if_it_fits(
    backend: str,
    function: Callable[..., Any],
    *arguments: Any,
    limit: int | None = None,
) -> Any:
    """Returns the result of a function, or `None` if it took too much memory.

    Args:
        backend: The backend of the new process in which the function runs.
        function: The function.
        arguments: Its arguments.
        limit: The most bytes of memory that the process may take; by default nine
            tenths of what is available.
    """
    limit = limit or int(SHARE * memory("MemAvailable", "/proc/meminfo"))
    with tempfile.TemporaryDirectory() as folder:
        sign = Path(folder) / "full"
        try:
            return backends.in_process_of(
                backend, _watched, limit, sign, function, *arguments
            )
        except BrokenProcessPool:
            if sign.exists():
                return None
            raise


def _watched(
    limit: int, sign: Path, function: Callable[..., Any], *arguments: Any
) -> Any:
    threading.Thread(target=_end_above, args=(limit, sign), daemon=True).start()
    return function(*arguments)


def _end_above(limit: int, sign: Path) -> None:
    """Ends the process once it takes more memory, and leaves a sign of that.

    A limit of the kernel's is no help: TensorFlow reserves more than it takes.
    """
    while memory("VmRSS") <= limit:
        time.sleep(0.02)
    sign.touch()
    os._exit(1)


def measure(
    backend: str, make: Make, contenders: Mapping[Any, Sequence[Any]], seconds: float
) -> pd.DataFrame:
    """Times contenders against each other.

    Args:
        backend: Their backend.
        make: Returns endless steps of a contender.
        contenders: The arguments of `make` by label and table.
        seconds: Duration of the measurement of contenders that share a process.

    Returns:
        Milliseconds a step, one row a round. Columns of large tables have fewer rows,
        and none if a contender ran out of memory.
    """
    shared = {key: each for key, each in contenders.items() if not key[1].is_large}
    samples = pd.DataFrame()
    if shared:
        arguments = make, shared, seconds
        samples = backends.in_process_of(backend, _measure_in_turns, *arguments)
        title = backends.BACKENDS[backend]
        print(f"{title}: {len(samples)} rounds of {len(shared)} contenders", flush=True)
    large = {key: each for key, each in contenders.items() if key not in shared}
    taken: dict[Any, list[float]] = {key: [] for key in large}
    for key in harness.in_turns(large, ROUNDS_ALONE):
        taken[key].append(_measure_alone(backend, key, make, large[key]))
    columns = {key: samples[key] for key in shared}
    columns |= {key: pd.Series(each) for key, each in taken.items()}
    return pd.DataFrame(columns)[[*contenders]]


def _measure_in_turns(
    make: Make, contenders: Mapping[Any, Sequence[Any]], seconds: float
) -> pd.DataFrame:
    steps = {key: make(*arguments) for key, arguments in contenders.items()}
    return harness.measure(steps, seconds)


def _measure_alone(
    backend: str, key: Any, make: Make, arguments: Sequence[Any]
) -> float:
    """Returns milliseconds a step, NaN if the contender ran out of memory."""
    found = if_it_fits(backend, _milliseconds, make, arguments)
    result = "out of memory" if found is None else f"{found:.3g} ms"
    title = backends.BACKENDS[backend]
    print(f"{title}, {', '.join(map(str, key))}: {result}", flush=True)
    return np.nan if found is None else found


def _milliseconds(make: Make, arguments: Sequence[Any]) -> float:
    sampler = harness.Sampler(make(*arguments))
    sampler.warm_up()
    for _ in range(SAMPLES_ALONE):
        sampler.sample()
    return float(np.median(sampler.milliseconds))


# Results.


def summarize(samples: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Returns quartiles of time, of speed relative to a label, and of growth.

    Growth is relative to the first table: within a round, or to the median there if the
    contender was alone.
    """
    first = samples.columns[0][1]
    records = []
    for label, table in samples.columns:
        time_a_step, at_first = samples[label, table], samples[label, first]
        if table.is_large:
            at_first = at_first.median()
        records.append(
            {
                "label": label,
                "table": str(table),
                "rows": table.rows,
                "width": table.width,
                "rounds": time_a_step.count(),
            }
            | harness.quartiles(
                milliseconds=time_a_step,
                times_as_fast=samples[reference, table] / time_a_step,
                growth=time_a_step / at_first,
            )
        )
    return pd.DataFrame(records)


def growth(row: pd.Series) -> str:
    """Formats the growth of the time."""
    known = not np.isnan(row.growth_median)
    return harness.with_spread(row, "growth") if known else "–"


def conditions(summary: pd.DataFrame, tables: Sequence[Table]) -> str:
    """Returns the rounds and the machine in words."""
    large = " and ".join(str(table) for table in tables if table.is_large)
    count = f"{ROUNDS_ALONE} round{'s' if ROUNDS_ALONE > 1 else ''}"
    alone = f" {large}: {count}, each contender alone in a new process."
    fitted = summary[summary["rounds"] > ROUNDS_ALONE]
    rounds = harness.rounds_of(fitted if len(fitted) else summary)
    return f"{rounds}.{alone if large else ''} {harness.machine()}."


def plot(summary: pd.DataFrame, by: str, colors: Mapping[str, str]) -> plt.Figure:
    """Draws the time by height of the table.

    Markers differ for tables of another width.

    Args:
        summary: The records of `summarize`.
        by: The field that has a panel for each of its values.
        colors: Colours by label.
    """
    parts = dict([*summary.groupby(by, sort=False)])
    columns = min(4, len(parts))
    lines = -(-len(parts) // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(max(6, 3.2 * columns), 0.6 + 3 * lines),
        sharey=True,
        squeeze=False,
    )
    width, *others = summary["width"].unique()
    axis = f"rows of the table, {width} wide"
    if others:
        axis += f" (◆ {', '.join(map(str, others))})"
    for panel in axes.flat[len(parts) :]:
        panel.remove()
    panels = axes.flat[: len(parts)]
    for panel, (title, curves) in zip(panels, parts.items(), strict=True):
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
                    color=colors[label],
                    label=label if style == "o-" else None,
                )
        panel.set(xscale="log", yscale="log", title=title, xlabel=axis)
        panel.grid(alpha=0.3)
    for line in axes:
        line[0].set_ylabel("ms a step")
    handles = {
        label: handle
        for panel in panels
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=min(columns, len(handles)),
    )
    figure.set_layout_engine("constrained")
    return figure
