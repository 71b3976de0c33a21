"""The curves of a comparison: loss and accuracy against steps and against seconds."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_adaptive.study.errors import needs_extra
from keras_adaptive.study.training import RunResult

with needs_extra("study"):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullLocator

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = {
    "sgd": "#000000",
    "adagrad": "#E69F00",
    "rmsprop": "#CC79A7",
    "adam": "#0072B2",
    "adamw": "#009E73",
}
OTHER_COLOUR = "#D55E00"
# Keras's lines are broad and pale, so that they show where ours run on top of them.
LINES = {
    "keras": {"linestyle": (0, (3, 1.5)), "linewidth": 3.2, "alpha": 0.5},
    "keras_adaptive": {"linestyle": "-", "linewidth": 1.5},
}
OTHER_LINE = {"linestyle": ":", "linewidth": 1.5}
MARKERS = {"train_loss": "", "val_accuracy": "."}
PANELS = (("train_loss", "training loss"), ("val_accuracy", "validation accuracy"))
AXES = (("step", "training steps"), ("seconds", "training time (s)"))


def band(
    runs: Sequence[RunResult], metric: str, axis: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the median curve of a contender and its range over seeds.

    Args:
        runs: The runs of one contender, which measured at the same steps.
        metric: Name of the metric.
        axis: `"step"` or `"seconds"`.

    Returns:
        The places on the axis (the median over seeds) and an array with the rows
        lowest, median and highest value. Where a run had diverged, it has no value.
    """
    steps: dict[int, list[tuple[float, float]]] = {}
    for run in runs:
        for point, value in run.series(metric):
            steps.setdefault(point.step, []).append((getattr(point, axis), value))
    places, values = [], []
    for _, measured in sorted(steps.items()):
        finite = [pair for pair in measured if math.isfinite(pair[1])]
        if finite:
            x, y = np.array(finite).T
            places.append(np.median(x))
            values.append([y.min(), np.median(y), y.max()])
    return np.array(places), np.array(values).reshape(-1, 3).T


def curves_figure(results: Sequence[RunResult], title: str) -> Figure:
    """Draws the curves of all contenders.

    Args:
        results: The runs.
        title: Text above the panels.

    Returns:
        A figure with 2 × 2 panels, the median over seeds as a line and the range as a
        band.
    """
    groups: dict[str, list[RunResult]] = {}
    for result in results:
        groups.setdefault(result.contender.name, []).append(result)
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2, sharey="row", sharex="col")
    handles = []
    for name, runs in groups.items():
        contender = runs[0].contender
        look = {
            "color": COLOURS.get(contender.algorithm, OTHER_COLOUR),
            **LINES.get(contender.library, OTHER_LINE),
        }
        for line, (metric, _) in zip(panels, PANELS, strict=True):
            for panel, (axis, _) in zip(line, AXES, strict=True):
                x, (low, median, high) = band(runs, metric, axis)
                panel.fill_between(x, low, high, color=look["color"], alpha=0.12, lw=0)
                panel.plot(x, median, marker=MARKERS[metric], **look)
        diverged = sum(run.diverged_at is not None for run in runs)
        label = f"{name} ({diverged} of {len(runs)} diverged)" if diverged else name
        handles.append(Line2D([], [], label=label, **look))
    for line, (metric, quantity) in zip(panels, PANELS, strict=True):
        line[0].set_ylabel(quantity)
        if metric == "train_loss":
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


def save_curves(results: Sequence[RunResult], title: str, path: Path) -> Path:
    """Draws the curves into a PNG file.

    Args:
        results: The runs.
        title: Text above the panels.
        path: Where to write the picture.

    Returns:
        The path.
    """
    curves_figure(results, title).savefig(path, dpi=130)
    return path
