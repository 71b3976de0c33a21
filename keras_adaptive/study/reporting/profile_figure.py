"""The performance profiles of Dolan and Moré as a figure."""

from __future__ import annotations

import numpy as np

from keras_adaptive.errors import needs_extra
from keras_adaptive.study.analysis.stats.profiles import (
    performance_ratios,
    profile_integral,
)
from keras_adaptive.study.reporting.panels import WIDTH, new_figure, tidy
from keras_adaptive.study.reporting.styles import line_styles

with needs_extra("study"):
    import pandas as pd
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import NullLocator, PercentFormatter


def profile_figure(costs: pd.DataFrame, cost: str, largest: float = 4.0) -> Figure:
    """Draws the performance profiles of Dolan and Moré.

    Args:
        costs: Workloads × contenders, infinite for a miss.
        cost: Name of the cost, such as `"steps to target"`.
        largest: The largest factor that is drawn.

    Returns:
        A figure with a line for each contender: the share of the workloads on which its
        cost is within a factor of the lowest. The legend has the areas.
    """
    ratios = performance_ratios(costs)
    areas = profile_integral(costs, largest)
    figure = new_figure(WIDTH * 0.7, 4.4, layout="constrained")
    panel = figure.subplots()
    styles = line_styles(costs.columns)
    handles = []
    for place in np.argsort(-areas, kind="stable"):
        name = costs.columns[place]
        own = ratios[:, place]
        jumps = np.unique(own[own <= largest])
        ends = np.union1d(jumps, [1, largest])
        line = {**styles[name], "marker": "", "linewidth": 2, "alpha": 0.85}
        points = {**styles[name], "linestyle": "", "clip_on": False, "zorder": 3}
        panel.step(ends, _share_within(own, ends), where="post", **line)
        panel.plot(jumps, _share_within(own, jumps), **points)
        label = f"{name}: {areas[place]:.2f}"
        handles.append(Line2D([], [], label=label, **styles[name]))
    panel.set_xscale("log", base=2)
    panel.set_xlim(1, largest)
    panel.set_ylim(0, 1)
    panel.set_xticks([1, 1.5, 2, 3, 4] if largest == 4 else np.geomspace(1, largest, 5))
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(PercentFormatter(1))
    panel.set_xlabel(f"{cost}, as a multiple of the lowest")
    panel.set_ylabel(f"share of {len(costs)} workloads")
    tidy(panel)
    panel.legend(
        handles=handles,
        title="area under the line",
        loc="center left",
        bbox_to_anchor=(1.02, 0.5),
        frameon=False,
    )
    return figure


def _share_within(ratios: np.ndarray, factors: np.ndarray) -> np.ndarray:
    return np.mean(ratios[:, None] <= factors, axis=0)
