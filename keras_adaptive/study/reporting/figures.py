"""Pictures of what a study says: sensitivity, profile, ranks and effects.

Each function returns a figure; `figure.savefig(path, dpi=130)` writes it. The curves of
the runs are in `keras_adaptive.study.reporting.curves`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from keras_adaptive.errors import StudyError, needs_extra
from keras_adaptive.study.analysis.pairing import grids, of_phase, with_upward
from keras_adaptive.study.analysis.stats import (
    average_ranks,
    critical_difference,
    performance_ratios,
    profile_integral,
)
from keras_adaptive.study.analysis.verdicts import (
    REFUTED,
    SUPPORTED,
    UNDECIDED,
    Verdict,
)
from keras_adaptive.study.reporting.curves import looks, metric_label

with needs_extra("study"):
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import (
        LogLocator,
        MaxNLocator,
        NullLocator,
        PercentFormatter,
    )

WIDTH = 11.0
PANELS_A_ROW = 3
PADDING = 0.08
WIDE = 3.0
ROW = 0.05
TOO_WIDE = 20.0
"""Ratio of values that are drawn on a logarithmic scale, to see more than the worst."""
INCHES_A_NAME = 2.7
INCHES_A_LETTER = 0.1
RANKS_WIDTH = 5.0
OUTCOME_COLOURS = {SUPPORTED: "#0072B2", REFUTED: "#D55E00", UNDECIDED: "#777777"}


def sensitivity_figure(
    runs: pd.DataFrame,
    directions: Mapping[str, str],
    metrics: Mapping[str, str],
    phase: str = "tune",
    over: str = "learning_rate",
) -> Figure:
    """Draws the validation metric against a hyper-parameter, a panel a workload.

    Args:
        runs: Runs over a grid, as for `analysis.robustness.robustness`.
        directions: For each workload `"max"` or `"min"`.
        metrics: For each workload the name of its metric.
        phase: Which runs to draw.
        over: The hyper-parameter.

    Returns:
        A figure with the median over seeds as a line and the range as a band; a cross
        in the grey strip is a value at which half of the runs or more diverged.
    """
    runs = of_phase(runs, phase, over, "validation_metric").dropna(subset=[over])
    scores = grids(
        with_upward(runs, directions, "validation_metric"),
        over,
        "validation_metric",
        -np.inf,
    )
    workloads = runs["workload"].unique()
    styles = looks(runs["contender"])
    figure, panels = _panels(len(workloads), height=3.2)
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
    _legend(figure, [*handles, cross])
    return figure


def _draw_grid(panel: Axes, grid: pd.DataFrame, sign: int, style: dict) -> list[float]:
    """Draws one line with its band; returns where there is nothing to draw."""
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
    styles: Mapping[str, dict],
) -> None:
    """Draws crosses in a strip at the worse edge, a row for each that has some."""
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


def profile_figure(costs: pd.DataFrame, cost: str, largest: float = 4.0) -> Figure:
    """Draws the performance profiles of Dolan and Moré.

    Args:
        costs: Workloads × contenders, infinite for a miss.
        cost: What the costs are, such as `"steps to target"`.
        largest: The largest factor that is drawn.

    Returns:
        A figure with a line for each contender: on what share of the workloads its cost
        is within a factor of the lowest. The legend has the areas.
    """
    ratios = performance_ratios(costs)
    areas = profile_integral(costs, largest)
    figure = Figure(figsize=(WIDTH * 0.7, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    styles = looks(costs.columns)
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
    _tidy(panel)
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


def critical_difference_figure(costs: pd.DataFrame, alpha: float = 0.05) -> Figure:
    """Draws average ranks, with bars over those that Nemenyi's test cannot tell apart.

    A picture only: the verdicts rest on pairs.

    Args:
        costs: Workloads × contenders, less is better, infinite for the worst.
        alpha: Level of the test.

    Raises:
        StudyError: If there are fewer than two contenders.

    References:
        Demšar 2006, "Statistical comparisons of classifiers over multiple data sets".
    """
    workloads, contenders = costs.shape
    if contenders < 2:
        raise StudyError("Ranks need two contenders or more.")
    ranks = pd.Series(average_ranks(costs), costs.columns).sort_values(kind="stable")
    width = critical_difference(contenders, workloads, alpha)
    groups = _groups(ranks.to_numpy(), width)
    styles = looks(costs.columns)
    left = (contenders + 1) // 2
    bars = 0.28 * len(groups)
    depth = bars + 0.6 + 0.5 * (left - 1)
    longest = max(len(f"{name}  {rank:.2f}") for name, rank in ranks.items())
    beside = INCHES_A_LETTER * longest + 0.3
    figure = Figure(figsize=(RANKS_WIDTH + 2 * beside, 1.6 + 0.55 * depth))
    FigureCanvasAgg(figure)
    panel = figure.add_axes((0, 0, 1, 1))
    panel.set_ylim(depth + 0.3, -1.7)
    margin = beside * (contenders - 1) / RANKS_WIDTH
    panel.set_xlim(1 - margin, contenders + margin)
    panel.set_axis_off()
    panel.plot([1, contenders], [0, 0], color="black", linewidth=1.2)
    for rank in range(1, contenders + 1):
        panel.plot([rank, rank], [-0.1, 0], color="black", linewidth=1.2)
        panel.text(rank, -0.18, f"{rank}", ha="center", va="bottom")
    panel.plot([1, 1 + width], [-0.8, -0.8], "|-", color="black", markersize=8)
    panel.text(
        1,
        -1.0,
        f"critical difference {width:.2f} ({workloads} workloads, level {alpha:g})",
        va="bottom",
    )
    for place, (name, rank) in enumerate(ranks.items()):
        on_left = place < left
        row = place if on_left else contenders - 1 - place
        y = bars + 0.6 + 0.5 * row
        space = 0.1 * margin
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
    for number, (first, last) in enumerate(groups):
        y = 0.25 + 0.28 * number
        ends = [ranks.iloc[first] - 0.03, ranks.iloc[last] + 0.03]
        panel.plot(ends, [y, y], color="black", linewidth=4, solid_capstyle="round")
    return figure


def _groups(ranks: np.ndarray, width: float) -> list[tuple[int, int]]:
    """Returns first and last of each longest run of sorted ranks within a width."""
    groups: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = int(np.flatnonzero(ranks <= rank + width)[-1])
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return groups


def effects_figure(verdicts: Sequence[Verdict]) -> Figure:
    """Draws the effects of one measure with their intervals, workload by workload.

    Args:
        verdicts: Those of one promise and measure.

    Returns:
        A figure with a panel for each workload and one over all; right is better. What
        is infinite is an arrow at the edge, a large one for the effect itself.

    Raises:
        StudyError: If there are no verdicts, or of more than one measure.
    """
    measures = {(each.promise, each.measure) for each in verdicts}
    if len(measures) != 1:
        raise StudyError(f"Effects are of one measure, not of {sorted(measures)}.")
    ((promise, measure),) = measures
    by_workload: dict[str | None, list[Verdict]] = {}
    for verdict in sorted(verdicts, key=lambda each: each.workload is None):
        by_workload.setdefault(verdict.workload, []).append(verdict)
    reference, ratio = verdicts[0].reference, verdicts[0].neutral == 1
    contenders = list(dict.fromkeys(each.contender for each in verdicts))
    figure, panels = _panels(
        len(by_workload), height=0.9 + 0.28 * len(contenders), sharey=True
    )
    for panel, (workload, rows) in zip(panels, by_workload.items(), strict=True):
        limits = _limits(verdicts if ratio else rows, ratio)
        panel.set_xscale("log" if ratio else "linear")
        panel.set_xlim(limits)
        panel.axvline(rows[0].neutral, color="0.6", linewidth=1, zorder=0)
        for verdict in rows:
            _draw_effect(panel, contenders.index(verdict.contender), verdict)
        panel.set_yticks(range(len(contenders)), contenders)
        panel.set_ylim(len(contenders) - 0.5, -0.5)
        panel.set_title(workload or "over all workloads", fontsize="medium")
        if ratio:
            panel.set_xlabel("times as fast")
            wide = limits[1] > WIDE * limits[0]
            panel.xaxis.set_major_locator(
                LogLocator(subs=(1, 1.5, 2, 3, 5, 7)) if wide else MaxNLocator(4)
            )
            panel.xaxis.set_major_formatter("{x:g}")
            panel.xaxis.set_minor_locator(NullLocator())
        else:
            panel.set_xlabel("gain" if workload else "share of pairs won minus lost")
            panel.xaxis.set_major_locator(MaxNLocator(4))
    title = f"{promise}: {measure} against {reference}"
    what = "(median, 95 % interval; right is better)"
    figure.suptitle("\n".join([title, what]), fontsize="medium")
    outcomes = [
        Line2D([], [], color=colour, marker="o", label=outcome)
        for outcome, colour in OUTCOME_COLOURS.items()
    ]
    _legend(figure, outcomes)
    return figure


def _limits(verdicts: Sequence[Verdict], ratio: bool) -> tuple[float, float]:
    """Returns the ends of an axis on which all that is finite has its place."""
    numbers = np.array([[v.neutral, v.effect, *v.interval] for v in verdicts])
    with np.errstate(divide="ignore"):
        places = np.log(numbers) if ratio else numbers
    places = places[np.isfinite(places)]
    pad = PADDING * np.ptp(places) or PADDING
    low, high = places.min() - pad, places.max() + pad
    return (math.exp(low), math.exp(high)) if ratio else (low, high)


def _draw_effect(panel: Axes, row: int, verdict: Verdict) -> None:
    """Draws a line with a point; what is beyond the axis is an arrow at its edge."""
    if not verdict.pairs:
        panel.text(
            0.5,
            row,
            "no pairs",
            ha="center",
            va="center",
            transform=panel.get_yaxis_transform(),
        )
        return
    colour = OUTCOME_COLOURS[verdict.outcome]
    low, high = panel.get_xlim()
    panel.plot(np.clip(verdict.interval, low, high), [row, row], color=colour, lw=2)
    for number, size in (
        (verdict.interval[0], 6),
        (verdict.interval[1], 6),
        (verdict.effect, 10),
    ):
        if number > high:
            panel.plot(high, row, ">", color=colour, markersize=size, clip_on=False)
        elif number < low:
            panel.plot(low, row, "<", color=colour, markersize=size, clip_on=False)
    panel.plot(verdict.effect, row, "o", color=colour)


def _panels(
    count: int, height: float, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """Returns a figure with so many panels, in rows."""
    columns = min(count, PANELS_A_ROW)
    rows = -(-count // columns)
    width = WIDTH * (0.35 + 0.65 * columns / PANELS_A_ROW)
    figure = Figure(figsize=(width, height * rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(wspace=0.06)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=sharey).ravel()
    for empty in grid[count:]:
        empty.remove()
    for panel in grid[:count]:
        _tidy(panel)
    return figure, list(grid[:count])


def _tidy(panel: Axes) -> None:
    panel.grid(color="0.9", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), int(figure.get_figwidth() / INCHES_A_NAME)),
        frameon=False,
    )
