"""Shared parts of the benchmarks: rounds, statistics, tables, plots and pages.

Contenders take turns within a round, in random order. Numbers are medians over the
rounds, with quartiles. Ratios are computed within a round, so that a slow phase of the
machine affects all contenders alike.
"""

import argparse
import importlib.util
import multiprocessing
import os
import platform
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

ROOT = Path(__file__).parent.parent
SAMPLE_SECONDS = 0.05
COLORS = {
    "Keras": "tab:red",
    "torch": "tab:orange",
    "optax": "tab:brown",
    "no": "tab:gray",
    "as": "tab:gray",
}
"""Colours by the first word of a label; all others are ours, and blue."""

LIBRARIES = {
    "keras": "Keras",
    "tensorflow": "TensorFlow",
    "torch": "torch",
    "optax": "optax",
    "jax": "JAX",
}

# Rounds.


@dataclass
class Sampler:
    """Takes samples of the time of one contender's step.

    A sample is the mean over as many consecutive steps as take 50 ms.
    """

    steps: Iterator[Any]
    steps_a_sample: int = 1
    milliseconds: list[float] = field(default_factory=list)

    def warm_up(self) -> float:
        """Compiles, sets the number of steps of a sample, and returns its seconds."""
        for _ in range(3):
            next(self.steps)
        seconds = min(self.seconds_a_step() for _ in range(3))
        self.steps_a_sample = max(1, round(SAMPLE_SECONDS / seconds))
        return seconds * self.steps_a_sample

    def seconds_a_step(self) -> float:
        """Returns the mean time of the steps of one sample."""
        start = time.perf_counter()
        for _ in range(self.steps_a_sample):
            next(self.steps)
        return (time.perf_counter() - start) / self.steps_a_sample

    def sample(self) -> None:
        """Takes a sample."""
        next(self.steps)  # contenders share variables: this step may meet another's
        self.milliseconds.append(1000 * self.seconds_a_step())


def in_turns(contenders: Iterable[Any], rounds: int) -> Iterator[Any]:
    """Yields all contenders in every round, in random order."""
    order = random.Random(0)
    contenders = list(contenders)
    for _ in range(rounds):
        yield from order.sample(contenders, k=len(contenders))


def measure(steps: Mapping[Any, Iterator[Any]], seconds: float) -> pd.DataFrame:
    """Times endless iterators of steps against each other.

    Args:
        steps: The contenders by the names of their columns.
        seconds: Duration of the measurement; at least five rounds, at most forty.

    Returns:
        Milliseconds a step, one row a round.
    """
    samplers = {key: Sampler(iterator) for key, iterator in steps.items()}
    round_seconds = sum(sampler.warm_up() for sampler in samplers.values())
    rounds = int(np.clip(seconds / round_seconds, 5, 40))
    for sampler in in_turns(samplers.values(), rounds):
        sampler.sample()
    return pd.DataFrame(
        {key: sampler.milliseconds for key, sampler in samplers.items()}
    )


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns the result of a function that runs in a new process."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as executor:
        return executor.submit(function, *arguments).result()


# Statistics.


def quartiles(**measured: pd.Series) -> dict[str, float]:
    """Returns the quartiles of series as `name_q1`, `name_median` and `name_q3`."""
    return {
        f"{name}_{quartile}": values.quantile(q)
        for name, values in measured.items()
        for quartile, q in [("q1", 0.25), ("median", 0.5), ("q3", 0.75)]
    }


def number(value: float) -> str:
    """Formats a number with two digits, or as a whole number."""
    return f"{value:,.0f}" if abs(value) >= 99.5 else f"{value:#.2g}".rstrip(".")


def with_spread(
    row: pd.Series, name: str, write: Callable[[float], str] = number
) -> str:
    """Formats a median with its quartiles."""
    low, middle, high = (write(row[f"{name}_{q}"]) for q in ("q1", "median", "q3"))
    return f"{middle} ({low}–{high})"


def time_and_ratio(row: pd.Series) -> str:
    """Formats milliseconds, and the speed relative to the reference for all others.

    Without milliseconds the contender ran out of memory.
    """
    if np.isnan(row.milliseconds_median):
        return "out of memory"
    cell = with_spread(row, "milliseconds")
    is_reference = row.times_as_fast_q1 == row.times_as_fast_q3 == 1
    if is_reference or np.isnan(row.times_as_fast_median):
        return cell
    return f"{cell}, {with_spread(row, 'times_as_fast')}×"


# The machine.


def threads() -> int:
    """Returns the number of usable cores, which TensorFlow and JAX use as threads."""
    return len(os.sched_getaffinity(0))


def installed(library: str) -> bool:
    """Says whether a library is installed."""
    return importlib.util.find_spec(library) is not None


def machine() -> str:
    """Returns processor, cores and versions in one line."""
    info = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (info.read_text().splitlines() if info.exists() else [])
        if line.startswith("model name")
    ]
    packages = metadata.packages_distributions()
    versions = [
        f"{title} {metadata.version(packages[library][0])}"
        for library, title in LIBRARIES.items()
        if installed(library)
    ]
    return (
        f"{names[0] if names else platform.processor()}, {threads()} cores; "
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


def rounds_of(summary: pd.DataFrame) -> str:
    """Returns the number of rounds in words."""
    least, most = summary["rounds"].min(), summary["rounds"].max()
    count = f"{most}" if least == most else f"{least} to {most}"
    return f"{count} round{'s' if most > 1 else ''}"


# Tables, plots and pages.


def markdown(
    summary: pd.DataFrame, row: str, column: str, cell: Callable[[pd.Series], str]
) -> str:
    """Returns a table of a summary.

    Args:
        summary: A record for each cell.
        row: The field whose values name the rows.
        column: The field whose values name the columns.
        cell: Formats a record.
    """
    heads = list(dict.fromkeys(summary[column]))
    lines = [f"| {row} | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for name, records in summary.groupby(row, sort=False):
        cells = {record[column]: cell(record) for _, record in records.iterrows()}
        lines.append(f"| {name} | {' | '.join(cells.get(h, '–') for h in heads)} |")
    return "\n".join(lines) + "\n"


def sections(
    summary: pd.DataFrame, by: str, write: Callable[[pd.DataFrame], str]
) -> str:
    """Returns what `write` makes of the records of each value of a field."""
    return "\n".join(
        f"{value}:\n\n{write(part)}" for value, part in summary.groupby(by, sort=False)
    )


def listing(
    summary: pd.DataFrame, columns: dict[str, Callable[[pd.Series], str]]
) -> str:
    """Returns a table of a summary with a line for each record."""
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for _, record in summary.iterrows():
        cells = (write(record) for write in columns.values())
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def error_bars(records: pd.DataFrame, name: str) -> list[pd.Series]:
    """Returns the distances of the quartiles from the median."""
    middle = records[f"{name}_median"]
    return [middle - records[f"{name}_q1"], records[f"{name}_q3"] - middle]


def bars(
    summary: pd.DataFrame,
    row: str,
    column: str,
    name: str,
    axis: str,
    by: str | None = None,
) -> plt.Figure:
    """Draws a panel for each value of `column` with a bar for each value of `row`.

    With `by` there is a line of panels for each value of that field.
    """
    parts = {"": summary} if by is None else dict([*summary.groupby(by, sort=False)])
    heads = list(dict.fromkeys(summary[column]))
    names = [list(dict.fromkeys(part[row])) for part in parts.values()]
    heights = [1.2 + 0.22 * len(bars) for bars in names]
    figure, axes = plt.subplots(
        len(parts),
        len(heads),
        figsize=(2 + 3.4 * len(heads), sum(heights)),
        height_ratios=heights,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    for panels, labels, (value, part) in zip(axes, names, parts.items(), strict=True):
        for panel, head in zip(panels, heads, strict=True):
            records = part[part[column] == head]
            panel.barh(
                [labels.index(label) for label in records[row]],
                records[f"{name}_median"],
                xerr=error_bars(records, name),
                color=[
                    COLORS.get(label.split()[0], "tab:blue") for label in records[row]
                ],
            )
            panel.set(title=f"{value}: {head}" if value else head, xlabel=axis)
            panel.set_yticks(range(len(labels)), labels)
            panel.grid(alpha=0.3, axis="x")
        panels[0].invert_yaxis()
    return figure


@dataclass
class Report:
    """The results of a benchmark.

    Args:
        name: Name of the benchmark and of its files.
        summary: The measurements.
        page: The measurements in words and tables.
        figure: The plot, if there is one.
        excerpts: Parts of the page for other pages, by the names of their markers.
    """

    name: str
    summary: pd.DataFrame
    page: str
    figure: plt.Figure | None = None
    excerpts: dict[str, str] = field(default_factory=dict)

    def publish(self, options: argparse.Namespace) -> None:
        """Prints the page, and writes the files that the options of `parser` name.

        Raises:
            ValueError: If none of the pages to fill has a marker of this benchmark.
        """
        print(self.page)
        if options.output:
            options.output.mkdir(parents=True, exist_ok=True)
            path = options.output / self.name
            self.summary.to_csv(
                path.with_suffix(".csv"), index=False, float_format="%.4g"
            )
            path.with_suffix(".md").write_text(
                f"# {self.name}\n\n{self.page}", encoding="utf-8"
            )
            if self.figure:
                self.figure.savefig(path.with_suffix(".png"), dpi=120)
        blocks = {self.name: self.page} | self.excerpts
        filled = [fill(page, blocks) for page in options.pages]
        if options.pages and not any(filled):
            raise ValueError(
                f"No page of {', '.join(map(str, options.pages))} has a line "
                f"{marker(self.name)[0].strip()}, after which to put the table."
            )


def marker(name: str) -> tuple[str, str]:
    """Returns the lines before and after a table of a page."""
    return f"<!-- benchmark:{name} -->\n", f"<!-- /benchmark:{name} -->"


def fill(page: Path, blocks: dict[str, str]) -> list[str]:
    """Puts blocks between the markers of a page.

    Args:
        page: The page.
        blocks: The blocks by the names of their markers.

    Returns:
        The names whose markers the page has.

    Raises:
        ValueError: If a marker has no end.
    """
    text = page.read_text(encoding="utf-8")
    found = [name for name in blocks if marker(name)[0] in text]
    for name in found:
        begin, end = marker(name)
        before, rest = text.split(begin)
        if end not in rest:
            raise ValueError(f"{page}: after {begin.strip()} there is no {end}.")
        text = f"{before}{begin}{blocks[name]}{end}{rest.split(end)[1]}"
    page.write_text(text, encoding="utf-8")
    return found


def file(text: str) -> Path:
    """Parses the name of an existing file."""
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return path


def parser(description: str, prog: str | None = None) -> argparse.ArgumentParser:
    """Returns a parser with the options of all benchmarks."""
    parser = argparse.ArgumentParser(prog=prog, description=description.splitlines()[0])
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="for tables and plots"
    )
    parser.add_argument(
        "--pages",
        nargs="+",
        type=file,
        default=[],
        metavar="FILE",
        help="pages to put the tables into, between their markers",
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to check that it works"
    )
    return parser
