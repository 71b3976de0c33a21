"""The curves of a workload: loss and metric against steps and against seconds."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from keras_adaptive.errors import needs_extra

with needs_extra("study"):
    import pandas as pd
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullLocator

if TYPE_CHECKING:
    from keras_adaptive.study.results import Results

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = {
    "sgd": "#000000",
    "adagrad": "#E69F00",
    "rmsprop": "#CC79A7",
    "adam": "#0072B2",
    "adamw": "#009E73",
}
# The rest of Okabe and Ito's colours but yellow, which is pale on white, and a grey.
MORE_COLOURS = ("#D55E00", "#56B4E9", "#777777")
SHAPES = "osD^vP*X"
# Keras's lines are broad and pale, so that they show where ours run on top of them.
KERAS_LINE = {"linestyle": (0, (3, 1.5)), "linewidth": 3.2, "alpha": 0.5}
LINE = {"linewidth": 1.5, "markersize": 4}
PLAIN = {"marker": ""}
LABEL_LETTERS = 24
AXES = (("step", "training steps"), ("seconds", "training time (s)"))


def band(curves: pd.DataFrame, axis: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the median curve of a contender and its range over seeds.

    Args:
        curves: One measure of the runs of one contender, as in `Results.curves`.
        axis: `"step"` or `"seconds"`.

    Returns:
        The places on the axis (the median over seeds) and an array with the rows
        lowest, median and highest value. Where a run had diverged, it has no value.
    """
    by_step = curves[np.isfinite(curves["value"])].groupby("step")
    values = by_step["value"].agg(["min", "median", "max"])
    return by_step[axis].median().to_numpy(), values.to_numpy().T


def looks(contenders: Iterable[str]) -> dict[str, dict]:
    """Returns a colour and a marker for each contender, no two alike.

    An algorithm keeps its colour, whoever implements it; Keras's lines are dashed.

    Args:
        contenders: Their names, such as `"keras/adam"`.

    Example:

    >>> styles = looks(["adam", "keras/adam"])
    >>> [(style["color"], style["marker"]) for style in styles.values()]
    [('#0072B2', 'o'), ('#0072B2', 's')]
    """
    colours: dict[str, str] = {}
    more = 0
    styles = {}
    for number, name in enumerate(dict.fromkeys(contenders)):
        algorithm = name.rpartition("/")[2].partition("-")[0].lower()
        if algorithm not in colours:
            colours[algorithm] = COLOURS.get(
                algorithm, MORE_COLOURS[more % len(MORE_COLOURS)]
            )
            more += algorithm not in COLOURS
        styles[name] = {
            "color": colours[algorithm],
            "marker": SHAPES[number % len(SHAPES)],
            "linestyle": (0, (4, 1.5)) if name.startswith("keras/") else "-",
        }
    return styles


def metric_label(metric: str) -> str:
    """Returns the label of an axis, in lines that fit beside a panel.

    Example:

    >>> metric_label("root_mean_squared_error")
    'validation root mean\\nsquared error'
    """
    return textwrap.fill(f"validation {metric}".replace("_", " "), LABEL_LETTERS)


def curves_figure(results: Results, workload: str, title: str) -> Figure:
    """Draws the curves of all contenders on a workload, with the seeds for judging.

    Args:
        results: The results of a study.
        workload: Which workload.
        title: Text above the panels.

    Returns:
        A figure with 2 × 2 panels, the median over seeds as a line and the range as a
        band.
    """
    runs, curves = (
        table[(table["workload"] == workload) & (table["phase"] == "compare")]
        for table in (results.runs, results.curves)
    )
    measures = (
        ("train_loss", "training loss"),
        ("validation_metric", metric_label(results.metrics[workload])),
    )
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2, sharey="row", sharex="col")
    handles = []
    styles = looks(results.tuned["contender"])
    for name in runs["contender"].unique():
        look = LINE | styles[name]
        if name.startswith("keras/"):
            look |= KERAS_LINE
        of_contender = curves[curves["contender"] == name]
        for line, (measure, _) in zip(panels, measures, strict=True):
            measured = of_contender[of_contender["measure"] == measure]
            for panel, (axis, _) in zip(line, AXES, strict=True):
                x, (low, median, high) = band(measured, axis)
                panel.fill_between(x, low, high, color=look["color"], alpha=0.12, lw=0)
                marked = look if measure == "validation_metric" else look | PLAIN
                panel.plot(x, median, **marked)
        status = runs[runs["contender"] == name]["status"]
        lost = [
            f"{(status == how).sum()} of {len(status)} {how}"
            for how in ("diverged", "failed")
            if (status == how).any()
        ]
        label = f"{name} ({', '.join(lost)})" if lost else name
        handles.append(Line2D([], [], label=label, **look))
    for line, (measure, quantity) in zip(panels, measures, strict=True):
        line[0].set_ylabel(quantity)
        if measure == "train_loss":
            line[0].set_yscale("log")
            line[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            line[0].yaxis.set_major_formatter("{x:g}")
            line[0].yaxis.set_minor_locator(NullLocator())
    for panel, (_, quantity) in zip(panels[-1], AXES, strict=True):
        panel.set_xlabel(quantity)
    for panel in panels.flat:
        panel.grid(color="0.9", linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    figure.align_ylabels(panels[:, 0])
    figure.suptitle(f"{title} (line: median over seeds, band: range)")
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure
