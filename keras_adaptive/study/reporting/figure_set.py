"""All pictures of a study, in the order in which they tell its story."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_adaptive.errors import needs_extra
from keras_adaptive.study.analysis.all_promises import along, hyper_parameters
from keras_adaptive.study.analysis.stats import median
from keras_adaptive.study.analysis.verdicts import Verdict
from keras_adaptive.study.reporting.curves import curves_figure
from keras_adaptive.study.reporting.figures import (
    critical_difference_figure,
    effects_figure,
    profile_figure,
    sensitivity_figure,
)

with needs_extra("study"):
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

if TYPE_CHECKING:
    from keras_adaptive.study.results import Results

DOTS_PER_INCH = 130


@dataclass(frozen=True)
class Picture:
    """A picture, drawn.

    Args:
        name: Name of its file, without ending.
        kind: What it shows: `"curves"`, `"sensitivity"`, `"workloads"` or the name of a
            promise.
        caption: What is to be seen, in words.
        png: The file's content.
    """

    name: str
    kind: str
    caption: str
    png: bytes


def draw_all(results: Results) -> list[Picture]:
    """Draws all pictures for which a study has the runs.

    Args:
        results: The results of a study.
    """
    return [
        Picture(re.sub(r"[^\w.-]+", "-", name), kind, caption, _png(figure))
        for name, kind, caption, figure in _figures(results)
    ]


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DOTS_PER_INCH)
    return out.getvalue()


def _figures(results: Results) -> Iterator[tuple[str, str, str, Figure]]:
    for workload in results.metrics:
        if len(results.judged(workload)):
            caption = (
                f"Training loss and validation {results.metrics[workload]} on "
                f"{workload}, by step and by second, with the tuned settings: the "
                "median over seeds as a line, the range as a band."
            )
            figure = curves_figure(results, workload, workload)
            yield f"curves-{workload}", "curves", caption, figure
    for over in hyper_parameters(results):
        caption = (
            f"The validation metric at the end of training against the "
            f"{over.replace('_', ' ')}: the median over the tuning seeds as a line, "
            "the range as a band; a cross marks where half of the runs or more "
            "diverged."
        )
        figure = sensitivity_figure(
            along(results, over), results.directions, results.metrics, over=over
        )
        yield f"sensitivity-{over}", "sensitivity", caption, figure
    yield from _over_workloads(results)
    for (promise, measure), judged in by_measure(results.verdicts()).items():
        caption = (
            f"{measure.capitalize()}: the effect of each contender against "
            f"{results.reference} with its 95 % interval; right is better."
        )
        yield f"effects-{measure}", promise, caption, effects_figure(judged)


def _over_workloads(results: Results) -> Iterator[tuple[str, str, str, Figure]]:
    steps = median_costs(results, "steps_to_target").dropna(how="all")
    steps = steps.fillna(np.inf)
    if len(steps) > 1 and np.isfinite(steps).any(axis=None):
        caption = (
            "Performance profile: on what share of the workloads a contender's median "
            "steps to the target are within a factor of the lowest."
        )
        yield "profile", "workloads", caption, profile_figure(steps, "steps to target")
    worse = median_costs(results, "test_metric").fillna(np.inf)
    if len(worse) > 1 and len(worse.columns) > 1:
        caption = (
            "Average rank of the median test metric. A bar joins contenders that "
            "Nemenyi's test cannot tell apart: a picture only, the verdicts rest on "
            "pairs."
        )
        yield "ranks", "workloads", caption, critical_difference_figure(worse)


def median_costs(results: Results, column: str) -> pd.DataFrame:
    """Returns what the tuned contenders need, or lose, on each workload.

    Args:
        results: The results of a study.
        column: What was measured; of a metric the better is the less.

    Returns:
        The medians over seeds, workloads × contenders; infinite if it diverged, NaN
        without a run that measured it.
    """
    runs = results.runs[results.runs["phase"] == "compare"]
    runs = runs.dropna(subset=[column])
    values = runs[column].astype(float)
    if column.endswith("_metric"):
        more = runs["workload"].map(results.directions) == "max"
        values = values.where(~more, -values)
    table = runs.assign(value=values).groupby(["workload", "contender"], sort=False)
    medians = table["value"].agg(median).unstack("contender")
    return medians.reindex(
        index=[name for name in results.metrics if name in medians.index],
        columns=results.tuned["contender"].unique(),
    )


def by_measure(verdicts: Sequence[Verdict]) -> dict[tuple[str, str], list[Verdict]]:
    """Groups verdicts by promise and measure.

    Over workloads there is nothing to say where there is one only: such verdicts are
    left out.

    Args:
        verdicts: Those of a study.
    """
    single = len({each.workload for each in verdicts if each.workload}) == 1
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for each in verdicts:
        if each.workload or not single:
            groups.setdefault((each.promise, each.measure), []).append(each)
    return groups
