"""The figure of the metric against a hyper-parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from keras_adaptive.errors import needs_extra
from keras_adaptive.study.analysis.pairing import grids, of_phase, with_upward
from keras_adaptive.study.reporting.panels import legend_below, panel_figure
from keras_adaptive.study.reporting.styles import LineStyle, line_styles, metric_label

with needs_extra("study"):
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

ROW = 0.05
TOO_WIDE = 20.0
"""Values with a larger ratio are drawn on a logarithmic scale."""


def sensitivity_figure(
    runs: pd.DataFrame,
    directions: Mapping[str, str],
    metrics: Mapping[str, str],
    phase: str = "tune",
    over: str = "learning_rate",
) -> Figure:
    """Draws the validation metric against a hyper-parameter, a panel for each workload.

    Args:
        runs: Runs over a grid, as for `analysis.robustness.robustness`.
        directions: For each workload `"max"` or `"min"`.
        metrics: For each workload the name of its metric.
        phase: The phase of the runs to draw.
        over: The hyper-parameter.

    Returns:
        A figure with the median over seeds as a line and the range as a band. A cross
        in the grey strip marks a value at which half of the runs or more diverged.
    """
    runs = of_phase(runs, phase, over, "validation_metric").dropna(subset=[over])
    scores = grids(
        with_upward(runs, directions, "validation_metric"),
        over,
        "validation_metric",
        -np.inf,
    )
    workloads = runs["workload"].unique()
    styles = line_styles(runs["contender"])
    figure, panels = panel_figure(len(workloads), height=3.2)
    for workload, panel in zip(workloads, panels, strict=True):
        sign = 1 if directions[workload] == "max" else -1
        lost: dict[str, list[float]] = {}
        for name, style in styles.items():
            if (workload, name) in scores:
                grid = scores[workload, name].dropna(axis=1, how="all")
                lost[name] = _draw_grid(panel, grid, sign, style)
        panel.set_xscale("log")
        panel.set_title(workload)
        panel.set_ylabel(metric_label(metrics[workload]))
        panel.set_xlabel(over.replace("_", " "))
        low, high = panel.dataLim.intervaly
        if low > 0 and high > TOO_WIDE * low:
            panel.set_yscale("log")
        _draw_lost(panel, lost, sign, styles)
    handles = [Line2D([], [], label=name, **style) for name, style in styles.items()]
    cross = Line2D([], [], marker="x", linestyle="", color="black", label="diverged")
    legend_below(figure, [*handles, cross])
    return figure


def _draw_grid(
    panel: Axes, grid: pd.DataFrame, sign: int, style: LineStyle
) -> list[float]:
    """Draws a line with its band and returns the points that have no finite median."""
    medians = grid.median()
    finite = grid.where(np.isfinite(grid))
    drawn = medians[np.isfinite(medians)].index
    panel.fill_between(
        drawn,
        sign * finite[drawn].min(),
        sign * finite[drawn].max(),
        color=style["color"],
        alpha=0.12,
        lw=0,
    )
    panel.plot(drawn, sign * medians[drawn], **style, linewidth=1.5, markersize=5)
    return [point for point in medians.index if point not in drawn]


def _draw_lost(
    panel: Axes,
    lost: Mapping[str, Sequence[float]],
    sign: int,
    styles: Mapping[str, LineStyle],
) -> None:
    """Draws crosses in a strip at the worse edge, a row for each contender."""
    rows = [name for name, points in lost.items() if points]
    straight = panel.yaxis.get_transform()
    best, worst = straight.transform(panel.get_ylim()[::sign][::-1])
    strip = ROW * len(rows) * (best - worst)
    edges = straight.inverted().transform([worst, worst - strip])
    panel.axhspan(*edges, color="0.95", lw=0)
    panel.set_ylim(*sorted((*straight.inverted().transform([best]), edges[1])))
    for number, name in enumerate(rows):
        place = worst - strip * (1 - (number + 0.7) / (len(rows) + 0.4))
        height = straight.inverted().transform([place])
        panel.plot(
            lost[name],
            [*height] * len(lost[name]),
            color=styles[name]["color"],
            marker="x",
            linestyle="",
        )
