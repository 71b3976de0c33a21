"""Robustness to a hyper-parameter, judged from runs over a grid of its values.

There are three measures for each seed on every workload: the sensitivity of Wortsman
et al. 2023 (arXiv:2309.14322), the decades within some percent of the best metric, and
the loss due to one value for all workloads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import numpy as np

from keras_adaptive.errors import InputError, needs_extra
from keras_adaptive.study.analysis.pairing import (
    Gains,
    Whose,
    by_seed,
    grids,
    less_is_better,
    margins_of,
    more_is_better,
    no_values,
    of_phase,
    pairs,
    with_upward,
)
from keras_adaptive.study.analysis.scales import DIFFERENCE
from keras_adaptive.study.analysis.stats.sensitivity import (
    decades_within,
    sensitivity,
    share_lost,
)
from keras_adaptive.study.analysis.stats.values import ROUNDING, tied
from keras_adaptive.study.analysis.verdicts import Measure, Pairs, Verdict, judge

with needs_extra("study"):
    import pandas as pd

TUNING = "tune"
NO_WINDOW = "has its best value at an edge of the grid"
COLUMNS = ("validation_metric", "validation_loss", "initial_loss")

Read = Callable[[Whose, pd.DataFrame], np.ndarray]
"""Maps the seeds of a window to one value each."""


def robustness(
    runs: pd.DataFrame,
    reference: str,
    directions: Mapping[str, str],
    phase: str = TUNING,
    over: str = "learning_rate",
    decades: float = 1.0,
    percent: float = 5.0,
    alpha: float = 0.05,
    seed: int = 0,
) -> list[Verdict]:
    """Judges whether contenders are less sensitive to a hyper-parameter.

    Sensitivity and decades compare a contender and the reference over windows of one
    width. Each window is centred at the best value of its own grid: the best median
    metric over seeds, and the middle one of equals. So the position of a grid does not
    matter. The width is what both grids cover on both sides, at most `decades` on
    either side. A grid whose best value is at its edge has no window and no pairs.

    Args:
        runs: A table with the column `over`, `validation_metric`, `validation_loss` and
            `initial_loss` (before training); a run for each value and seed.
        reference: Label of the contender that the others are compared with.
        directions: For each workload `"max"` if more of its metric is better, `"min"`
            if less is.
        phase: The phase of the runs to use.
        over: The hyper-parameter: a column of positive numbers, NaN for the runs of
            contenders that do not have it.
        decades: Half the width of the widest window.
        percent: The largest distance from the best metric, in percent of it.
        alpha: The family-wise error rate.
        seed: Decides the resamples of the intervals.

    Returns:
        The verdicts. Those on one value for all workloads need two workloads or more.

    Raises:
        InputError: If the table lacks a column, a value or the reference, if a
            workload has no direction, or if there are two runs for one value.
    """
    runs = with_upward(_over(runs, phase, over), directions, "validation_metric")
    losses = grids(runs, over, "validation_loss", np.inf)
    scores = grids(runs, over, "validation_metric", -np.inf)
    initial = _initial_losses(runs)
    margins = margins_of(runs, None)
    shown = over.replace("_", " ")
    contenders = [name for name in runs["contender"].unique() if name != reference]

    def compare(
        values: Mapping[Whose, pd.DataFrame], read: Read, gains: Gains
    ) -> list[Pairs]:
        comparisons: list[Pairs] = []
        for contender in contenders:
            windows = _windows(scores, (contender, reference), decades)
            measured = _in_windows(windows, values, read)
            comparisons += pairs(measured, reference, gains, margins)
        return comparisons

    measures = {
        f"sensitivity to {shown}": compare(
            losses,
            lambda whose, rows: sensitivity(rows, initial[whose][rows.index]),
            less_is_better,
        ),
        f"decades of {shown} within {percent:g} %": compare(
            scores,
            lambda _, rows: decades_within(rows.columns, rows, percent, "max"),
            more_is_better,
        ),
    }
    if runs["workload"].nunique() > 1:
        lost = one_for_all(runs, phase, over)
        measures[f"share lost by one {shown} for all"] = pairs(
            lost, reference, less_is_better, margins
        )
    return [
        verdict
        for name, comparisons in measures.items()
        for verdict in judge(
            Measure("robustness", name, DIFFERENCE), comparisons, alpha, seed
        )
    ]


def _in_windows(
    windows: Iterable[tuple[Whose, pd.Index]],
    values: Mapping[Whose, pd.DataFrame],
    read: Read,
) -> pd.DataFrame:
    """Returns one value for each seed of each window, for `pairs`."""
    return pd.concat(
        [
            by_seed(whose, values[whose][window], partial(read, whose))
            if len(window)
            else no_values(whose, values[whose].index, NO_WINDOW)
            for whose, window in windows
        ]
    )


def one_for_all(
    runs: pd.DataFrame, phase: str = TUNING, over: str = "learning_rate"
) -> pd.DataFrame:
    """Returns the share that each contender loses by one value for all workloads.

    The value minimizes the mean over workloads of the median `share_lost` over seeds.
    It must have been tried on all workloads.

    Args:
        runs: As for `robustness`.
        phase: The phase of the runs to use.
        over: The hyper-parameter.

    Returns:
        A frame with `workload`, `contender`, `seed`, `value` (the share lost, or NaN
        with a `reason`) and `chosen`, the contender's value for all workloads.

    Raises:
        InputError: If the table lacks a column or a value, or if there are two runs
            for one value.
    """
    runs = _over(runs, phase, over)
    initial = _initial_losses(runs)
    losses = grids(runs, over, "validation_loss", np.inf)
    frames = []
    for contender in runs["contender"].unique():
        shares = {
            whose: _shares(grid, initial[whose])
            for whose, grid in losses.items()
            if whose[1] == contender
        }
        everywhere = pd.DataFrame(
            {whose: each.median() for whose, each in shares.items()}
        )
        means = everywhere.dropna().mean(axis=1)
        chosen = means.idxmin() if len(means) else np.nan
        frames += [
            (
                by_seed(whose, grid[[chosen]], lambda rows: rows.squeeze(axis=1))
                if len(means)
                else no_values(whose, grid.index, f"tried no {over} on all workloads")
            ).assign(chosen=chosen)
            for whose, grid in shares.items()
        ]
    return pd.concat(frames, ignore_index=True)


def _over(runs: pd.DataFrame, phase: str, over: str) -> pd.DataFrame:
    runs = of_phase(runs, phase, over, *COLUMNS).dropna(subset=[over])
    if runs.empty or not (runs[over] > 0).all():
        raise InputError(f"The values of {over} must be positive numbers.")
    blank = runs[runs["initial_loss"].isna() & (runs["status"] != "failed")]
    if len(blank):
        raise InputError(
            f"A run of {blank.iloc[0]['contender']} on {blank.iloc[0]['workload']} has "
            "no initial_loss."
        )
    return runs


def _initial_losses(runs: pd.DataFrame) -> dict[Whose, pd.Series]:
    """Returns the loss before training by seed, for each workload and contender."""
    return {
        whose: rows.groupby("seed")["initial_loss"].first()
        for whose, rows in runs.groupby(["workload", "contender"], sort=False)
    }


def _windows(
    scores: Mapping[Whose, pd.DataFrame],
    two: tuple[str, str],
    decades: float,
) -> Iterator[tuple[Whose, pd.Index]]:
    """Yields the window around each best value, as wide as both grids cover."""
    for workload in dict.fromkeys(workload for workload, _ in scores):
        grids_of_two = {
            (workload, name): scores[workload, name]
            for name in two
            if (workload, name) in scores
        }
        distances = {
            whose: np.log10(grid.columns / _best_point(grid))
            for whose, grid in grids_of_two.items()
            if grid.notna().any(axis=None)
        }
        reach = {
            whose: min(-distance.min(), distance.max())
            for whose, distance in distances.items()
        }
        half = min([decades, *filter(None, reach.values())]) + ROUNDING
        for whose, grid in grids_of_two.items():
            if whose in distances:
                inside = (np.abs(distances[whose]) <= half) & (reach[whose] > 0)
                yield whose, grid.columns[inside]
            else:
                yield whose, grid.columns


def _best_point(scores: pd.DataFrame) -> float:
    """Returns the point with the best median over seeds, the middle one of equals."""
    medians = scores.median()
    points = medians.index[tied(medians, medians.max())]
    return points[(len(points) - 1) // 2]


def _shares(grid: pd.DataFrame, initial: pd.Series) -> pd.DataFrame:
    """Returns the share lost at each point, NaN for a seed that lacks a point."""
    whole = grid.dropna()
    if whole.empty:
        return grid * np.nan
    shares = share_lost(whole, initial[whole.index])
    return pd.DataFrame(shares, whole.index, whole.columns).reindex(grid.index)
