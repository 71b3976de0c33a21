"""The table of a comparison: for the terminal, as markdown and as CSV."""

import csv
import io
import math
from collections.abc import Sequence

from keras_adaptive.study.errors import needs_extra
from keras_adaptive.study.results import MEASURES, Row, Spread

with needs_extra("study"):
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text


def headings(metric: str) -> tuple[str, ...]:
    """Returns the headings of the table, with the name of the metric."""
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
    """Formats a number, with a word for the infinite and a dash for NaN."""
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
        f"{spread(row.epochs_to_target, 'g', 'miss')}, {row.hits}/{row.runs} runs",
        spread(scaled(row.step_seconds, 1e3), ".1f"),
        spread(row.first_round_seconds, ".1f"),
    )


def stacked(cell: str) -> str:
    """Breaks a cell into short lines, the range below the median."""
    return cell.replace(" [", "\n").replace("]", "").replace(", ", "\n")


def to_rich(rows: Sequence[Row], metric: str, title: str, caption: str) -> Table:
    """Makes the table for the terminal, with short lines that fit 80 columns.

    Args:
        rows: The lines.
        metric: Name of the metric.
        title: Text above the table.
        caption: Text below the table.
    """
    table = Table(
        title=title,
        caption=Text(caption),
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for at, heading in enumerate(headings(metric)):
        lines = heading.replace(" ", "\n").replace("_", "\n")
        table.add_column(lines, justify="right" if at else "left", no_wrap=True)
    for row in rows:
        name, *numbers = map(stacked, cells(row))
        table.add_row(Text(name.replace("/", "/\n")), *map(Text, numbers))
    return table


def to_markdown(rows: Sequence[Row], metric: str, title: str, caption: str) -> str:
    """Makes the table as a markdown page.

    Args:
        rows: The lines.
        metric: Name of the metric.
        title: Text above the table.
        caption: Text below the table.
    """
    head = headings(metric)
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *map(cells, rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"# {title}\n\n{table}\n\n{caption}\n"


def to_csv(rows: Sequence[Row]) -> str:
    """Makes the table as CSV with plain numbers; `inf` is a miss or a divergence."""
    counts = ("contender", "setting", "runs", "diverged", "failed", "hits")
    statistics = ("median", "low", "high")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [*counts, *(f"{each}_{which}" for each in MEASURES for which in statistics)]
    )
    for row in rows:
        writer.writerow(
            [getattr(row, count) for count in counts]
            + [
                getattr(getattr(row, measure), which)
                for measure in MEASURES
                for which in statistics
            ]
        )
    return out.getvalue()
