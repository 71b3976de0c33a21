"""Average ranks with the critical difference of Nemenyi's test as a figure."""

from __future__ import annotations

import numpy as np

from keras_adaptive.errors import InputError, needs_extra
from keras_adaptive.study.analysis.stats.profiles import (
    average_ranks,
    critical_difference,
)
from keras_adaptive.study.reporting.panels import new_figure
from keras_adaptive.study.reporting.styles import LineStyle, line_styles

with needs_extra("study"):
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INCHES_A_LETTER = 0.1
RANKS_WIDTH = 5.0


def critical_difference_figure(costs: pd.DataFrame, alpha: float = 0.05) -> Figure:
    """Draws average ranks, with bars over those that Nemenyi's test cannot tell apart.

    Use it for illustration only, since verdicts rest on pairs.

    Args:
        costs: Workloads × contenders; less is better, infinite is the worst.
        alpha: Level of the test.

    Raises:
        InputError: If there are fewer than two contenders.

    References:
        Demšar 2006, "Statistical comparisons of classifiers over multiple data sets".
    """
    workloads, contenders = costs.shape
    if contenders < 2:
        raise InputError("Ranks need two contenders or more.")
    ranks = pd.Series(average_ranks(costs), costs.columns).sort_values(kind="stable")
    width = critical_difference(contenders, workloads, alpha)
    groups = _groups(ranks.to_numpy(), width)
    bars = 0.28 * len(groups)
    depth = bars + 0.6 + 0.5 * ((contenders + 1) // 2 - 1)
    longest = max(len(f"{name}  {rank:.2f}") for name, rank in ranks.items())
    beside = INCHES_A_LETTER * longest + 0.3
    margin = beside * (contenders - 1) / RANKS_WIDTH
    figure = new_figure(RANKS_WIDTH + 2 * beside, 1.6 + 0.55 * depth)
    panel = figure.add_axes((0, 0, 1, 1))
    panel.set_ylim(depth + 0.3, -1.7)
    panel.set_xlim(1 - margin, contenders + margin)
    panel.set_axis_off()
    _draw_axis(panel, contenders)
    panel.plot([1, 1 + width], [-0.8, -0.8], "|-", color="black", markersize=8)
    panel.text(
        1,
        -1.0,
        f"critical difference {width:.2f} ({workloads} workloads, level {alpha:g})",
        va="bottom",
    )
    _draw_names(panel, ranks, line_styles(costs.columns), bars + 0.6, 0.1 * margin)
    for number, (first, last) in enumerate(groups):
        y = 0.25 + 0.28 * number
        ends = [ranks.iloc[first] - 0.03, ranks.iloc[last] + 0.03]
        panel.plot(ends, [y, y], color="black", linewidth=4, solid_capstyle="round")
    return figure


def _draw_axis(panel: Axes, contenders: int) -> None:
    """Draws the line of all ranks with its ticks."""
    panel.plot([1, contenders], [0, 0], color="black", linewidth=1.2)
    for rank in range(1, contenders + 1):
        panel.plot([rank, rank], [-0.1, 0], color="black", linewidth=1.2)
        panel.text(rank, -0.18, f"{rank}", ha="center", va="bottom")


def _draw_names(
    panel: Axes,
    ranks: pd.Series,
    styles: dict[str, LineStyle],
    top: float,
    space: float,
) -> None:
    """Writes the better half of the names on the left, the others on the right."""
    contenders = len(ranks)
    for place, (name, rank) in enumerate(ranks.items()):
        on_left = place < (contenders + 1) // 2
        row = place if on_left else contenders - 1 - place
        y = top + 0.5 * row
        edge = 1 - space if on_left else contenders + space
        colour = styles[name]["color"]
        panel.plot([rank, rank, edge], [0, y, y], color=colour, linewidth=1.4)
        panel.text(
            edge + (-space / 2 if on_left else space / 2),
            y,
            f"{name}  {rank:.2f}" if on_left else f"{rank:.2f}  {name}",
            ha="right" if on_left else "left",
            va="center",
        )


def _groups(ranks: np.ndarray, width: float) -> list[tuple[int, int]]:
    """Returns the ends of each longest run of sorted ranks within a width."""
    groups: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = int(np.flatnonzero(ranks <= rank + width)[-1])
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return groups
