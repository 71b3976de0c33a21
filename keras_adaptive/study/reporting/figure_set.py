"""All figures of a study, in the order of the report."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from keras_adaptive.errors import needs_extra
from keras_adaptive.study.analysis.run_table import RunTable
from keras_adaptive.study.analysis.verdicts import Verdict, by_measure
from keras_adaptive.study.reporting.curves import curves_figure
from keras_adaptive.study.reporting.effects_figure import effects_figure
from keras_adaptive.study.reporting.output import file_name
from keras_adaptive.study.reporting.profile_figure import profile_figure
from keras_adaptive.study.reporting.rank_figure import critical_difference_figure
from keras_adaptive.study.reporting.sensitivity_figure import sensitivity_figure

with needs_extra("study"):
    import numpy as np
    from matplotlib.figure import Figure

DOTS_PER_INCH = 130


@dataclass(frozen=True)
class Picture:
    """A figure that is drawn, as a PNG file.

    Args:
        name: Name of the file, without its ending.
        kind: Its subject: `"curves"`, `"sensitivity"`, `"workloads"` or the name of a
            promise.
        caption: The caption.
        png: The content of the file.
    """

    name: str
    kind: str
    caption: str
    png: bytes


def draw_all(table: RunTable, verdicts: Sequence[Verdict]) -> list[Picture]:
    """Draws all figures for which a study has the runs.

    Args:
        table: The runs of the study.
        verdicts: The verdicts of the study.
    """
    return [
        Picture(file_name(name), kind, caption, _png(figure))
        for name, kind, caption, figure in (
            *_curves(table),
            *_sensitivities(table),
            *_over_workloads(table),
            *_effects(table, verdicts),
        )
    ]


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DOTS_PER_INCH)
    return out.getvalue()


Drawn = tuple[str, str, str, Figure]
"""Name, kind and caption of a figure, and the figure."""


def _curves(table: RunTable) -> Iterator[Drawn]:
    for workload, metric in table.metrics.items():
        if len(table.evaluation_on(workload)):
            caption = (
                f"Training loss and validation {metric} on {workload}, by step and by "
                "second, with the tuned settings: the median over seeds as a line, the "
                "range as a band."
            )
            figure = curves_figure(table, workload, workload)
            yield f"curves-{workload}", "curves", caption, figure


def _sensitivities(table: RunTable) -> Iterator[Drawn]:
    for name in table.tuned_hyperparameters:
        caption = (
            f"The validation metric at the end of training against the "
            f"{name.replace('_', ' ')}: the median over the tuning seeds as a line, "
            "the range as a band; a cross marks where half of the runs or more "
            "diverged."
        )
        figure = sensitivity_figure(
            table.tuning_along(name), table.directions, table.metrics, over=name
        )
        yield f"sensitivity-{name}", "sensitivity", caption, figure


def _over_workloads(table: RunTable) -> Iterator[Drawn]:
    steps = table.median_costs("steps_to_target").dropna(how="all")
    steps = steps.fillna(np.inf)
    if len(steps) > 1 and np.isfinite(steps).any(axis=None):
        caption = (
            "Performance profile: the share of the workloads on which a contender's "
            "median steps to the target are within a factor of the lowest."
        )
        yield "profile", "workloads", caption, profile_figure(steps, "steps to target")
    costs = table.median_costs("test_metric").fillna(np.inf)
    if len(costs) > 1 and len(costs.columns) > 1:
        caption = (
            "Average rank of the median test metric. A bar joins contenders that "
            "Nemenyi's test cannot tell apart. It is an illustration only, since "
            "verdicts rest on pairs."
        )
        yield "ranks", "workloads", caption, critical_difference_figure(costs)


def _effects(table: RunTable, verdicts: Sequence[Verdict]) -> Iterator[Drawn]:
    for (promise, measure), judged in by_measure(verdicts).items():
        caption = (
            f"{measure.capitalize()}: the effect of each contender against "
            f"{table.reference} with its 95 % interval; right is better."
        )
        yield f"effects-{measure}", promise, caption, effects_figure(judged)
