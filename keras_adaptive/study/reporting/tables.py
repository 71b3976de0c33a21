"""The table of a workload: for the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_adaptive.errors import needs_extra
from keras_adaptive.study.analysis.run_table import RunTable
from keras_adaptive.study.analysis.verdicts import Verdict

with needs_extra("study"):
    import pandas as pd
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

TARGET_RULE = (
    "The target is the median over seeds of the best validation {metric} that the "
    "reference, {reference}, reached within three quarters of its steps. The epochs to "
    "target are those until the validation {metric} first reaches it, with the number "
    "of runs that did; a miss counts as later than any epoch"
)


@dataclass(frozen=True)
class Spread:
    """Median and range of a measurement over seeds.

    An infinite value stands for a run that diverged or missed its target.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Returns the spread of all values except NaN; NaN if there are no others."""
        measured = [each for each in values if not math.isnan(each)] or [math.nan]
        return cls(statistics.median(measured), min(measured), max(measured))


MEASURES = (
    "test_metric",
    "test_loss",
    "epochs_to_target",
    "step_seconds",
    "first_round_seconds",
)


@dataclass(frozen=True)
class Row:
    """A contender's line in the table of a workload."""

    contender: str
    setting: str
    runs: int
    diverged: int
    failed: int
    hits: int
    test_metric: Spread
    test_loss: Spread
    epochs_to_target: Spread
    step_seconds: Spread
    first_round_seconds: Spread


def summarize(table: RunTable, workload: str) -> list[Row]:
    """Summarizes the evaluation runs of each contender on a workload.

    Diverged runs and misses count as the worst value. Failed runs have no value.

    Args:
        table: The runs of a study.
        workload: Name of the workload.

    Returns:
        A row for each contender, in the order of the study.
    """
    tuned = table.tuned[table.tuned["workload"] == workload]
    runs = table.evaluation_on(workload)
    return [
        _summary(chosen, runs[runs["contender"] == chosen["contender"]])
        for chosen in tuned.to_dict("records")
    ]


def _summary(chosen: dict[str, Any], runs: pd.DataFrame) -> Row:
    return Row(
        contender=chosen["contender"],
        setting=chosen["setting"],
        runs=len(runs),
        diverged=int((runs["status"] == "diverged").sum()),
        failed=int((runs["status"] == "failed").sum()),
        hits=int((runs["steps_to_target"] < math.inf).sum()),
        **{measure: Spread.of(runs[measure]) for measure in MEASURES},
    )


def headings(metric: str) -> tuple[str, ...]:
    """Returns the headings of the table of a workload."""
    return (
        "optimizer",
        "rate",
        f"test {metric}",
        "test loss",
        "epochs to target",
        "ms per step",
        "first epoch, s",
    )


def number(value: float, form: str, infinite: str) -> str:
    """Formats a number, with a word for infinity and a dash for NaN."""
    if math.isnan(value):
        return "–"
    return format(value, form) if math.isfinite(value) else infinite


def spread(values: Spread, form: str, infinite: str = "diverged") -> str:
    """Formats a median with its range, as in `0.851 [0.849–0.853]`."""
    median, low, high = (
        number(value, form, infinite)
        for value in (values.median, values.low, values.high)
    )
    return (
        median
        if low == high or math.isnan(values.median)
        else f"{median} [{low}–{high}]"
    )


def scaled(values: Spread, factor: float) -> Spread:
    """Returns a spread in another unit."""
    return Spread(values.median * factor, values.low * factor, values.high * factor)


def cells(row: Row) -> tuple[str, ...]:
    """Returns the cells of a contender's line, one for each of `headings`."""
    lost = [f"{row.diverged} diverged"] if row.diverged else []
    lost += [f"{row.failed} failed"] if row.failed else []
    return (
        ", ".join([row.contender, *lost]),
        row.setting,
        spread(row.test_metric, ".3f"),
        spread(row.test_loss, ".3f"),
        f"{spread(row.epochs_to_target, '.3g', 'miss')}, {row.hits}/{row.runs} runs",
        spread(scaled(row.step_seconds, 1e3), ".1f"),
        spread(row.first_round_seconds, ".1f"),
    )


def stacked(cell: str) -> str:
    """Breaks a cell into short lines, the range below the median."""
    return cell.replace(" [", "\n").replace("]", "").replace(", ", "\n")


def to_rich(rows: Sequence[Row], metric: str, title: str, caption: str) -> Table:
    """Returns the table for the terminal, with short lines that fit 80 columns.

    Args:
        rows: The lines.
        metric: Name of the metric.
        title: Text above the table.
        caption: Text below the table.
    """
    shown = Table(
        title=Text(title),
        caption=Text(caption),
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for at, heading in enumerate(headings(metric)):
        lines = heading.replace(" ", "\n").replace("_", "\n")
        shown.add_column(Text(lines), justify="right" if at else "left", no_wrap=True)
    for row in rows:
        name, *numbers = map(stacked, cells(row))
        shown.add_row(Text(name.replace("/", "/\n")), *map(Text, numbers))
    return shown


def to_markdown(rows: Sequence[Row], metric: str, title: str, caption: str) -> str:
    """Returns the table as a Markdown page.

    Args:
        rows: The lines.
        metric: Name of the metric.
        title: Text above the table.
        caption: Text below the table.
    """
    head = headings(metric)
    table = _markdown([head, ["---"] + ["---:"] * (len(head) - 1), *map(cells, rows)])
    return f"# {title}\n\n{table}\n\n{caption}\n"


def _markdown(lines: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def verdicts_to_markdown(groups: Mapping[tuple[str, str], Sequence[Verdict]]) -> str:
    """Returns a table of verdicts for each measure: optimizers × workloads.

    Args:
        groups: The verdicts by promise and measure, as from `by_measure`.
    """
    parts = []
    for (promise, measure), verdicts in groups.items():
        workloads = list(dict.fromkeys(each.workload for each in verdicts))
        heads = ["optimizer", *(each or "all workloads" for each in workloads)]
        lines = [heads, ["---"] * len(heads)]
        for contender in dict.fromkeys(each.contender for each in verdicts):
            own = {e.workload: e for e in verdicts if e.contender == contender}
            judged = (verdict_cell(own[w]) if w in own else "–" for w in workloads)
            lines.append([contender, *judged])
        parts.append(f"{promise.capitalize()}, {measure}:\n\n{_markdown(lines)}\n")
    return "\n".join(parts)


def verdict_cell(verdict: Verdict) -> str:
    """Formats a verdict with its effect, as in `refuted, 1 [0.9, 1.1]×`."""
    if math.isnan(verdict.effect):
        return verdict.outcome
    ratio = verdict.neutral == 1
    low, high = verdict.interval
    values = [
        number(each, ".2g" if ratio else "+.2g", "∞" if each > 0 else "-∞")
        for each in (verdict.effect, low, high)
    ]
    effect = f"{values[0]} [{values[1]}, {values[2]}]"
    return f"{verdict.outcome}, {effect}{'×' if ratio else ''}"


def to_csv(rows: Sequence[Row]) -> str:
    """Returns the table as CSV; `inf` stands for a miss or a divergence."""
    counts = ("contender", "setting", "runs", "diverged", "failed", "hits")
    ends = ("median", "low", "high")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [*counts, *(f"{each}_{which}" for each in MEASURES for which in ends)]
    )
    for row in rows:
        writer.writerow(
            [getattr(row, count) for count in counts]
            + [
                getattr(getattr(row, measure), which)
                for measure in MEASURES
                for which in ends
            ]
        )
    return out.getvalue()


def caption(table: RunTable, workload: str) -> str:
    """Returns the caption of the table of a workload.

    Args:
        table: The runs of a study.
        workload: Name of the workload.
    """
    seeds = table.evaluation["seed"].nunique()
    rule = TARGET_RULE.format(metric=table.metrics[workload], reference=table.reference)
    target = table.targets[workload]
    reached = (
        "There is no target here, since the reference has no result so early"
        if math.isnan(target)
        else f"Here the target is {target:.4f}"
    )
    return (
        f"Median [range] over {seeds} seed{'s' if seeds > 1 else ''}. {rule}. "
        f"{reached}. The ms per step leave out the first epoch, which includes "
        "compilation."
    )
