"""What a study says: shown, written to files and attached to its run."""

from __future__ import annotations

import re
from pathlib import Path

from keras_adaptive.commands.options import output_folder
from keras_adaptive.errors import needs_extra
from keras_adaptive.study.ledger.mlflow_ledger import attach, store_location
from keras_adaptive.study.reporting import tables
from keras_adaptive.study.reporting.figure_set import by_measure
from keras_adaptive.study.results import Results

with needs_extra("study"):
    from rich.console import Console


def publish(results: Results, name: str, folder: Path, console: Console) -> Path:
    """Shows tables and verdicts of a study, and writes tables, pictures and report.

    Args:
        results: The results of a study.
        name: Name of the study's own folder.
        folder: Where that is made.
        console: Where tables and verdicts are shown.

    Returns:
        The study's folder, with `report.html`, `plots/` and `tables/`.
    """
    place = output_folder(folder / file_name(name))
    for workload, metric in results.metrics.items():
        rows = tables.summarize(results, workload)
        text = tables.caption(results, workload)
        shown = metric, workload, text
        stem = output_folder(place / "tables") / file_name(workload)
        for suffix, content in (
            (".md", tables.to_markdown(rows, *shown)),
            (".csv", tables.to_csv(rows)),
        ):
            file = stem.parent / f"{stem.name}{suffix}"
            file.write_text(content, encoding="utf-8")
            attach(results.run_id, file, "tables")
        console.print(tables.to_rich(rows, *shown))
    verdicts = by_measure(results.verdicts())
    file = output_folder(place / "tables") / "verdicts.md"
    file.write_text(tables.verdicts_to_markdown(verdicts), encoding="utf-8")
    attach(results.run_id, file, "tables")
    for (promise, measure), judged in verdicts.items():
        lines = [
            f"  {each.contender} on {each.workload or 'all workloads'}: "
            f"{each.outcome}. {each.why}"
            for each in judged
        ]
        console.print(
            f"{promise}, {measure}:", *lines, sep="\n", highlight=False, markup=False
        )
    results.plot(place / "plots")
    report = results.report(place / "report.html")
    console.print(f"Report: {report}", soft_wrap=True)
    console.print(f"Runs in MLflow: {store_location()}; see 'keras-adaptive ui'")
    return place


def file_name(title: str) -> str:
    """Makes the name of a file of a title.

    Example:

    >>> file_name("compare on csv:my data.csv")
    'compare-on-csv-my-data.csv'
    """
    return re.sub(r"[^\w.-]+", "-", title)
