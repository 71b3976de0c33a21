"""The effects of one measure with their intervals as a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from keras_adaptive.errors import InputError, needs_extra
from keras_adaptive.study.analysis.verdicts import (
    REFUTED,
    SUPPORTED,
    UNDECIDED,
    Verdict,
)
from keras_adaptive.study.reporting.panels import legend_below, panel_figure

with needs_extra("study"):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

PADDING = 0.08
WIDE = 3.0
OUTCOME_COLOURS = {SUPPORTED: "#0072B2", REFUTED: "#D55E00", UNDECIDED: "#777777"}


def effects_figure(verdicts: Sequence[Verdict]) -> Figure:
    """Draws the effects of one measure with their intervals, workload by workload.

    Args:
        verdicts: The verdicts on one promise by one measure.

    Returns:
        A figure with a panel for each workload and one over all; right is better. An
        infinite value is an arrow at the edge, a large arrow for the effect itself.

    Raises:
        InputError: If there are no verdicts, or if they have several measures.
    """
    measures = {(each.promise, each.measure) for each in verdicts}
    if len(measures) != 1:
        raise InputError(f"Effects are of one measure, not of {sorted(measures)}.")
    ((promise, measure),) = measures
    by_workload: dict[str | None, list[Verdict]] = {}
    for verdict in sorted(verdicts, key=lambda each: each.workload is None):
        by_workload.setdefault(verdict.workload, []).append(verdict)
    reference, ratio = verdicts[0].reference, verdicts[0].neutral == 1
    contenders = list(dict.fromkeys(each.contender for each in verdicts))
    figure, panels = panel_figure(
        len(by_workload), height=0.9 + 0.28 * len(contenders), sharey=True
    )
    for panel, (workload, rows) in zip(panels, by_workload.items(), strict=True):
        panel.set_xscale("log" if ratio else "linear")
        panel.set_xlim(_limits(verdicts if ratio else rows, ratio))
        panel.axvline(rows[0].neutral, color="0.6", linewidth=1, zorder=0)
        for verdict in rows:
            _draw_effect(panel, contenders.index(verdict.contender), verdict)
        panel.set_yticks(range(len(contenders)), contenders)
        panel.set_ylim(len(contenders) - 0.5, -0.5)
        panel.set_title(workload or "over all workloads", fontsize="medium")
        _label_axis(panel, ratio, workload)
    title = f"{promise}: {measure} against {reference}"
    what = "(median, 95 % interval; right is better)"
    figure.suptitle("\n".join([title, what]), fontsize="medium")
    outcomes = [
        Line2D([], [], color=colour, marker="o", label=outcome)
        for outcome, colour in OUTCOME_COLOURS.items()
    ]
    legend_below(figure, outcomes)
    return figure


def _label_axis(panel: Axes, ratio: bool, workload: str | None) -> None:
    """Labels the x axis of a panel, whose limits are set."""
    if ratio:
        low, high = panel.get_xlim()
        panel.set_xlabel("times as fast")
        panel.xaxis.set_major_locator(
            LogLocator(subs=(1, 1.5, 2, 3, 5, 7))
            if high > WIDE * low
            else MaxNLocator(4)
        )
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_locator(NullLocator())
    else:
        panel.set_xlabel("gain" if workload else "share of pairs won minus lost")
        panel.xaxis.set_major_locator(MaxNLocator(4))


def _limits(verdicts: Sequence[Verdict], ratio: bool) -> tuple[float, float]:
    """Returns the ends of an axis that shows all finite values."""
    numbers = np.array([[v.neutral, v.effect, *v.interval] for v in verdicts])
    with np.errstate(divide="ignore"):
        places = np.log(numbers) if ratio else numbers
    places = places[np.isfinite(places)]
    pad = PADDING * np.ptp(places) or PADDING
    low, high = places.min() - pad, places.max() + pad
    return (math.exp(low), math.exp(high)) if ratio else (low, high)


def _draw_effect(panel: Axes, row: int, verdict: Verdict) -> None:
    """Draws an interval and its effect; values beyond the axis become arrows."""
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
