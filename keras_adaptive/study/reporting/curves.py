"""The curves of a workload: loss and metric against steps and against seconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_adaptive.errors import needs_extra
from keras_adaptive.study.analysis.run_table import RunTable
from keras_adaptive.study.reporting.panels import WIDTH, new_figure
from keras_adaptive.study.reporting.styles import LineStyle, line_styles, metric_label

with needs_extra("study"):
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullLocator

# Keras's lines are broad and pale, so that they show where ours run on top of them.
KERAS_LINE: LineStyle = {"linestyle": (0, (3, 1.5)), "linewidth": 3.2, "alpha": 0.5}
LINE: LineStyle = {"linewidth": 1.5, "markersize": 4}
PLAIN: LineStyle = {"marker": ""}
MEASURES = ("train_loss", "validation_metric")
AXES = {"step": "training steps", "seconds": "training time (s)"}


def band(curves: pd.DataFrame, axis: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the median curve of a contender and its range over seeds.

    Args:
        curves: One measure of the runs of one contender, as in `RunTable.curves`.
        axis: `"step"` or `"seconds"`.

    Returns:
        The places on the axis (the median over seeds), and an array with the rows
        lowest, median and highest value. Values that are not finite are left out.
    """
    by_step = curves[np.isfinite(curves["value"])].groupby("step")
    values = by_step["value"].agg(["min", "median", "max"])
    return by_step[axis].median().to_numpy(), values.to_numpy().T


def curves_figure(table: RunTable, workload: str, title: str) -> Figure:
    """Draws the curves of all contenders in the evaluation runs on a workload.

    Args:
        table: The runs of a study.
        workload: Name of the workload.
        title: Text above the panels.

    Returns:
        A figure with 2 × 2 panels, with the median over seeds as a line and the range
        as a band.
    """
    runs, curves = table.evaluation_on(workload), table.curves
    curves = curves[(curves["workload"] == workload) & (curves["phase"] == "compare")]
    figure = new_figure(WIDTH, 7.5, layout="constrained")
    panels = figure.subplots(2, 2, sharey="row", sharex="col")
    handles = []
    styles = line_styles(table.contenders)
    for name in runs["contender"].unique():
        style = LINE | styles[name]
        if name.startswith("keras/"):
            style |= KERAS_LINE
        _draw_contender(panels, curves[curves["contender"] == name], style)
        status = runs[runs["contender"] == name]["status"]
        handles.append(Line2D([], [], label=_label(name, status), **style))
    _label_axes(panels, metric_label(table.metrics[workload]))
    figure.align_ylabels(panels[:, 0])
    figure.suptitle(f"{title} (line: median over seeds, band: range)")
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _draw_contender(
    panels: Sequence[Sequence[Axes]], curves: pd.DataFrame, style: LineStyle
) -> None:
    """Draws the median curves of a contender with their bands."""
    for row, measure in zip(panels, MEASURES, strict=True):
        measured = curves[curves["measure"] == measure]
        marked = style if measure == "validation_metric" else style | PLAIN
        for panel, axis in zip(row, AXES, strict=True):
            x, (low, median, high) = band(measured, axis)
            panel.fill_between(x, low, high, color=style["color"], alpha=0.12, lw=0)
            panel.plot(x, median, **marked)


def _label(name: str, status: pd.Series) -> str:
    """Returns the label of a contender, with the number of its runs that were lost."""
    lost = [
        f"{(status == how).sum()} of {len(status)} {how}"
        for how in ("diverged", "failed")
        if (status == how).any()
    ]
    return f"{name} ({', '.join(lost)})" if lost else name


def _label_axes(panels: np.ndarray, metric: str) -> None:
    """Labels the axes and makes that of the loss logarithmic."""
    loss, validation = panels[:, 0]
    loss.set_ylabel("training loss")
    loss.set_yscale("log")
    loss.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    loss.yaxis.set_major_formatter("{x:g}")
    loss.yaxis.set_minor_locator(NullLocator())
    validation.set_ylabel(metric)
    for panel, quantity in zip(panels[-1], AXES.values(), strict=True):
        panel.set_xlabel(quantity)
    for panel in panels.flat:
        panel.grid(color="0.9", linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
