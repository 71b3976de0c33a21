"""Size at which updating a whole table costs as much as updating the batch's rows.

    python -m benchmarks.small_tables

The constants `SMALL_TABLE` and `ROWS_PER_ID` of `row_updates.py` are based on this
benchmark, which sets each of them so that Adam takes one path or the other. A table
with few entries is updated as if its gradient were dense, and has no row clocks. A
table with few rows for each id has clocks, and is updated whole if a batch touches much
of it.
"""

import gc
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import matplotlib.pyplot as plt
import pandas as pd

from benchmarks import harness
from benchmarks.on_tables import Table
from benchmarks.sparse_contenders import LEARNING_RATE, Problem, keras_steps
from keras_adaptive.optimizers import Adam
from keras_adaptive.optimizers.engine.sparse import row_updates as sparse

ALWAYS = 2**60
BY_ROW = {"SMALL_TABLE": 0, "ROWS_PER_ID": 0}
WHOLE = {
    "SMALL_TABLE": {"SMALL_TABLE": ALWAYS, "ROWS_PER_ID": 0},
    # More than any table here has; this times the ids has to fit into 32 bits.
    "ROWS_PER_ID": {"SMALL_TABLE": 0, "ROWS_PER_ID": 1_000},
}
SETTINGS = {constant: getattr(sparse, constant) for constant in WHOLE}
WIDTHS = [16, 64]
FEW_IDS, MANY_IDS = 64, 4096
TITLES = {
    "SMALL_TABLE": f"entries of the table; {FEW_IDS} ids",
    "ROWS_PER_ID": f"rows for each id; {MANY_IDS} ids",
}


def problems(constant: str, width: int, quick: bool) -> dict[int, Problem]:
    """Returns tables on both sides of a constant, by the size that it limits."""
    if constant == "SMALL_TABLE":
        sizes = [2**n for n in ([10, 12] if quick else range(13, 21))]
        return {n: Problem(Table(n // width, width), FEW_IDS) for n in sizes}
    ids = FEW_IDS if quick else MANY_IDS
    ratios = [2, 4] if quick else [2, 4, 8, 16, 32]
    return {n: Problem(Table(n * ids, width), ids) for n in ratios}


def steps(problem: Problem, limits: dict[str, Any]) -> Iterator[Any]:
    """Yields steps of Adam that are traced with the given constants."""
    endless = keras_steps(Adam(LEARNING_RATE), problem)
    with mock.patch.multiple(sparse, **limits):
        first = next(endless)
    yield first
    yield from endless


def summarize(constant: str, width: int, samples: pd.DataFrame) -> pd.DataFrame:
    """Returns the quartiles of the time for the whole table over that for its rows."""
    return pd.DataFrame(
        {
            "constant": constant,
            "width": f"{width} wide",
            "size": size,
            "rounds": len(samples),
        }
        | harness.quartiles(
            whole=samples["whole", size],
            by_row=samples["by row", size],
            ratio=samples["whole", size] / samples["by row", size],
        )
        for size in samples["whole"].columns
    )


def plot(summary: pd.DataFrame) -> plt.Figure:
    """Draws the ratios, and the constants as they are set."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for panel, (constant, setting) in zip(axes, SETTINGS.items(), strict=True):
        part = summary[summary["constant"] == constant]
        for width, curve in part.groupby("width", sort=False):
            panel.errorbar(
                curve["size"],
                curve["ratio_median"],
                yerr=harness.error_bars(curve, "ratio"),
                fmt="o-",
                label=width,
            )
        panel.axhline(1, color="gray")
        panel.axvline(setting, color="gray", linestyle="--", label=constant)
        panel.set(xscale="log", yscale="log", xlabel=TITLES[constant])
        sizes = part["size"].unique()
        panel.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=30)
        panel.minorticks_off()
        panel.yaxis.set_major_formatter("{x:g}")
        panel.grid(alpha=0.3)
        panel.legend()
    axes[0].set_ylabel("time whole / time by row")
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = harness.parser(__doc__).parse_args(argv)
    parts = []
    for constant, whole in WHOLE.items():
        for width in WIDTHS[:1] if options.quick else WIDTHS:
            contenders = {}
            for size, problem in problems(constant, width, options.quick).items():
                contenders["whole", size] = steps(problem, whole)
                contenders["by row", size] = steps(problem, BY_ROW)
            samples = harness.measure(contenders, seconds=0 if options.quick else 10)
            parts.append(summarize(constant, width, samples))
            del contenders
            gc.collect()
    summary = pd.concat(parts, ignore_index=True)

    tables = [
        f"{constant} is {SETTINGS[constant]:,}; {TITLES[constant]}:\n\n"
        + harness.markdown(
            part.assign(size=part["size"].map("{:,}".format)),
            "width",
            "size",
            lambda row: harness.with_spread(row, "ratio"),
        )
        for constant, part in summary.groupby("constant", sort=False)
    ]
    page = (
        f"Adam, deferred; {harness.rounds_of(summary)}. {harness.machine()}.\n\n"
        "Time of an update of the whole table over that of one by row, median "
        "(quartiles); below 1 the whole table is faster.\n\n" + "\n".join(tables)
    )
    harness.Report("small_tables", summary, page, plot(summary)).publish(options)


if __name__ == "__main__":
    main()
