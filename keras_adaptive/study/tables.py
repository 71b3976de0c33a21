"""The table of a comparison: for the terminal, as markdown and as CSV."""

import csv
import io
import math
from collections.abc import Sequence

from keras_adaptive.study.errors import needs_extra
from keras_adaptive.study.results import Row, Spread

with needs_extra("study"):
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

HEADINGS = (
    "optimizer",
    "rate",
    "test accuracy",
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
    """Returns the cells of a contender's line, one for each of `HEADINGS`."""
    return (
        row.contender.name + (f", {row.diverged} diverged" if row.diverged else ""),
        f"{row.contender.learning_rate:g}",
        spread(row.test_accuracy, ".3f"),
        spread(row.test_loss, ".3f"),
        f"{spread(row.epochs_to_target, 'g', 'miss')}, {row.hits}/{row.runs} runs",
        spread(scaled(row.step_seconds, 1e3), ".1f"),
        spread(row.first_epoch_seconds, ".1f"),
    )


def stacked(cell: str) -> str:
    """Breaks a cell into short lines, the range below the median."""
    return cell.replace(" [", "\n").replace("]", "").replace(", ", "\n")


def to_rich(rows: Sequence[Row], title: str, caption: str) -> Table:
    """Makes the table for the terminal, with short lines that fit 80 columns.

    Args:
        rows: The lines.
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
    for at, heading in enumerate(HEADINGS):
        lines = heading.replace(" ", "\n")
        table.add_column(lines, justify="right" if at else "left", no_wrap=True)
    for row in rows:
        name, *numbers = map(stacked, cells(row))
        table.add_row(Text(name.replace("/", "/\n")), *map(Text, numbers))
    return table


def to_markdown(rows: Sequence[Row], title: str, caption: str) -> str:
    """Makes the table as a markdown page.

    Args:
        rows: The lines.
        title: Text above the table.
        caption: Text below the table.
    """
    lines = [HEADINGS, ["---"] + ["---:"] * (len(HEADINGS) - 1), *map(cells, rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"# {title}\n\n{table}\n\n{caption}\n"


def to_csv(rows: Sequence[Row]) -> str:
    """Makes the table as CSV with plain numbers; `inf` is a miss or a divergence."""
    measures = (
        "test_accuracy",
        "test_loss",
        "epochs_to_target",
        "step_seconds",
        "first_epoch_seconds",
    )
    statistics = ("median", "low", "high")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["library", "algorithm", "learning_rate", "runs", "diverged", "hits"]
        + [f"{measure}_{which}" for measure in measures for which in statistics]
    )
    for row in rows:
        contender = row.contender
        writer.writerow(
            [
                contender.library,
                contender.algorithm,
                contender.learning_rate,
                row.runs,
                row.diverged,
                row.hits,
            ]
            + [
                getattr(getattr(row, measure), which)
                for measure in measures
                for which in statistics
            ]
        )
    return out.getvalue()
