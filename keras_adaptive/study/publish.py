"""Publishes a study: shows, writes and attaches its tables, figures and report."""

from __future__ import annotations

from pathlib import Path

from keras_adaptive.errors import needs_extra
from keras_adaptive.study.analysis.run_table import RunTable
from keras_adaptive.study.analysis.verdicts import by_measure
from keras_adaptive.study.ledger.connection import store_location
from keras_adaptive.study.reporting import tables
from keras_adaptive.study.reporting.output import file_name, output_folder
from keras_adaptive.study.results import Results
from keras_adaptive.terminal import say

with needs_extra("study"):
    from rich.console import Console


def publish(results: Results, place: Path, console: Console) -> Path:
    """Shows tables and verdicts of a study, and writes tables, figures and report.

    The files are also attached to the study's run in MLflow.

    Args:
        results: The results of the study.
        place: The study's own folder; it is made if it does not exist.
        console: Shows tables and verdicts.

    Returns:
        The study's own folder, with `report.html`, `plots/` and `tables/`.
    """
    output_folder(place)
    verdicts = by_measure(results.verdicts())
    texts = _show_tables(results.table, console)
    texts["verdicts.md"] = tables.verdicts_to_markdown(verdicts)
    written = output_folder(place / "tables")
    for file, text in texts.items():
        (written / file).write_text(text, encoding="utf-8")
        results.artifacts.attach(written / file, "tables")
    for (promise, measure), judged in verdicts.items():
        lines = [
            f"  {each.contender} on {each.workload or 'all workloads'}: "
            f"{each.outcome}. {each.why}"
            for each in judged
        ]
        say(console, f"{promise}, {measure}:", *lines)
    results.plot(place / "plots")
    report = results.report(place / "report.html")
    say(console, f"Report: {report}", soft_wrap=True)
    say(console, f"Runs in MLflow: {store_location()}; see 'keras-adaptive ui'")
    return place


def _show_tables(runs: RunTable, console: Console) -> dict[str, str]:
    """Shows the table of each workload, and returns the texts of its files."""
    texts = {}
    for workload, metric in runs.metrics.items():
        rows = tables.summarize(runs, workload)
        shown = metric, workload, tables.caption(runs, workload)
        texts[f"{file_name(workload)}.md"] = tables.to_markdown(rows, *shown)
        texts[f"{file_name(workload)}.csv"] = tables.to_csv(rows)
        console.print(tables.to_rich(rows, *shown))
    return texts
