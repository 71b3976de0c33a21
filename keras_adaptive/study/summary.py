"""Tables and curves of a study: shown, written to files and attached to its run."""

from __future__ import annotations

import math
from pathlib import Path

from keras_adaptive.study import tables
from keras_adaptive.study.errors import needs_extra
from keras_adaptive.study.ledger import attach, store_location
from keras_adaptive.study.plots import save_curves
from keras_adaptive.study.results import TARGET_RULE, Results, summarize

with needs_extra("study"):
    from rich.console import Console


def publish(results: Results, title: str, folder: Path, console: Console) -> list[Path]:
    """Shows the table of every workload, and writes tables and curves.

    Args:
        results: The results of a study.
        title: Its name, that of the workload is added.
        folder: Folder for the files, of which each workload gets one of its own.
        console: Where the tables are shown.

    Returns:
        The files.
    """
    files = []
    for workload, metric in results.metrics.items():
        heading = f"{title} on {workload}"
        place = folder / f"{title}-{workload}".replace(":", "-").replace("/", "-")
        place.mkdir(exist_ok=True)
        rows = summarize(results, workload)
        text = caption(results, workload)
        markdown, table = place / "table.md", place / "table.csv"
        markdown.write_text(
            tables.to_markdown(rows, metric, heading, text), encoding="utf-8"
        )
        table.write_text(tables.to_csv(rows), encoding="utf-8")
        curves = save_curves(results, workload, heading, place / "curves.png")
        files += [curves, markdown, table]
        console.print(tables.to_rich(rows, metric, heading, text))
        console.print(f"Plots and tables: {place}", soft_wrap=True)
    for file in files:
        attach(
            results.run_id, file, "" if len(results.metrics) == 1 else file.parent.name
        )
    console.print(f"Runs in MLflow: {store_location()}; see 'keras-adaptive ui'")
    return files


def caption(results: Results, workload: str) -> str:
    """Returns what is to be known about the table of a workload.

    Args:
        results: The results of a study.
        workload: Which workload.
    """
    seeds = results.runs.query("phase == 'compare'")["seed"].nunique()
    rule = TARGET_RULE.format(
        metric=results.metrics[workload], reference=results.reference
    )
    target = results.targets[workload]
    reached = (
        "Here there is none, since the reference has no result"
        if math.isnan(target)
        else f"Here the target is {target:.4f}"
    )
    return (
        f"Median [range] over {seeds} seed{'s' if seeds > 1 else ''}. {rule}. "
        f"{reached}. ms per step: without the first epoch, which includes "
        "compilation."
    )
