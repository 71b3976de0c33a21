"""Pairs the runs of a table: two runs are a pair if they share workload and seed.

The table is a pandas frame with a row for each run. `workload`, `contender` and `seed`
identify the run, `phase` is its purpose, and `status` how it ended:

- `"finished"`: its values count.
- `"diverged"`: it has the worst possible value and loses.
- `"failed"`: it raised, or its process died. It has no value, and its pair is left out
  and named.
- `"pruned"`: a pruner stopped it while it tuned. It has no value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from keras_adaptive.errors import InputError, needs_extra
from keras_adaptive.study.analysis.stats.paired_tests import differences, log_ratios
from keras_adaptive.study.analysis.stats.values import upward
from keras_adaptive.study.analysis.verdicts import Pairs

with needs_extra("study"):
    import pandas as pd

RUN = ["workload", "contender", "seed"]
STATUSES = ("finished", "diverged", "failed", "pruned")

Gains = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Maps the values of a contender and of the reference to the contender's gains."""

Whose = tuple[str, str]
"""A workload and a contender."""


def less_is_better(contender: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Returns the gains of a contender where less is better."""
    return differences(reference, contender)


def more_is_better(contender: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Returns the gains of a contender where more is better."""
    return differences(contender, reference)


def times_less(contender: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Returns the logarithm of the factor by which a contender needs less.

    It is NaN where both need infinitely much, since their order is unknown.
    """
    unknown = np.isinf(contender) & np.isinf(reference)
    return np.where(unknown, np.nan, log_ratios(reference, contender))


def of_phase(runs: pd.DataFrame, phase: str, *columns: str) -> pd.DataFrame:
    """Returns the runs of a phase.

    Args:
        runs: A table of runs.
        phase: The phase.
        columns: The columns that the table must have besides those that identify runs.

    Raises:
        InputError: If a column is missing, if a status is unknown, or if the phase has
            no run.
    """
    missing = [name for name in (*RUN, "phase", "status", *columns) if name not in runs]
    if missing:
        raise InputError(
            f"The table of runs lacks the column {missing[0]!r}; it has "
            f"{', '.join(map(str, runs.columns))}."
        )
    runs = runs[runs["phase"] == phase]
    if runs.empty:
        raise InputError(f"The table has no run of the phase {phase!r}.")
    unknown = set(runs["status"]) - set(STATUSES)
    if unknown:
        raise InputError(
            f"A run's status is one of {', '.join(STATUSES)}, not {unknown.pop()!r}."
        )
    return runs


def with_upward(
    runs: pd.DataFrame, directions: Mapping[str, str], *columns: str
) -> pd.DataFrame:
    """Returns the runs with metrics whose sign makes more better on every workload.

    Args:
        runs: A table of runs.
        directions: For each workload `"max"` if more of its metric is better, `"min"`
            if less is.
        columns: The metrics.

    Raises:
        InputError: If a workload has no direction, or not one of these two.
    """
    for workload in runs["workload"].unique():
        if workload not in directions:
            raise InputError(
                f"The workload {workload!r} has no direction. Say 'max' or 'min'."
            )
    signs = runs["workload"].map(
        {name: float(upward(1, direction)) for name, direction in directions.items()}
    )
    return runs.assign(**{name: runs[name] * signs for name in columns})


def margins_of(
    runs: pd.DataFrame, margins: Mapping[str, float] | None
) -> dict[str, float]:
    """Returns the smallest gain that matters on each workload, 0 by default.

    Raises:
        InputError: If a margin is given for a workload that has no run.
    """
    result = dict.fromkeys(runs["workload"], 0.0)
    unknown = set(margins or ()) - set(result)
    if unknown:
        raise InputError(
            f"There is a margin for {unknown.pop()!r}, but no run of such a workload."
        )
    return result | dict(margins or {})


def values(runs: pd.DataFrame, column: str, worst: float) -> pd.Series:
    """Returns the value of each run: the worst if it diverged, NaN if it is lost.

    Raises:
        InputError: If a finished run has no value.
    """
    status = runs["status"]
    result = runs[column].astype(float).where(status == "finished")
    blank = runs[(status == "finished") & result.isna()]
    if len(blank):
        workload, contender, seed = blank.iloc[0][RUN]
        raise InputError(
            f"The run of {contender} on {workload} with seed {seed} finished without "
            f"{column}. A run without a value is 'diverged', 'failed' or "
            "'pruned'."
        )
    return result.where(status != "diverged", worst)


def by_run(runs: pd.DataFrame, column: str, worst: float) -> pd.DataFrame:
    """Returns the value of each run, for `pairs`.

    Args:
        runs: Runs, at most one for each workload, contender and seed.
        column: The column with the values.
        worst: The value of a diverged run.

    Returns:
        A frame with `workload`, `contender`, `seed`, `value`, and the `reason` if the
        value is NaN.
    """
    return runs[RUN].assign(
        value=values(runs, column, worst),
        reason=np.where(runs["status"] == "failed", "failed", ""),
    )


def grids(
    runs: pd.DataFrame, over: str, column: str, worst: float
) -> dict[Whose, pd.DataFrame]:
    """Returns the values of the runs over a grid, for each workload and contender.

    Args:
        runs: Runs, at most one for each workload, contender, seed and point.
        over: The column with the points of the grid.
        column: The column with the values.
        worst: The value of a diverged run.

    Returns:
        Frames of seeds × rising points, with NaN where a run failed or is missing.

    Raises:
        InputError: If there are two runs for one point.
    """
    _once(runs, [*RUN, over])
    table = runs.assign(value=values(runs, column, worst))
    return {
        whose: rows.pivot(index="seed", columns=over, values="value")
        for whose, rows in table.groupby(["workload", "contender"], sort=False)
    }


def by_seed(
    whose: Whose,
    grid: pd.DataFrame,
    read: Callable[[pd.DataFrame], Sequence[float] | np.ndarray],
) -> pd.DataFrame:
    """Returns one value for each seed of a grid, for `pairs`.

    Args:
        whose: Workload and contender.
        grid: Seeds × points, NaN where a run has no value.
        read: Maps the seeds that have all points to one value each.

    Returns:
        A frame as from `by_run`.
    """
    whole = grid.notna().all(axis=1)
    value = pd.Series(np.nan, grid.index)
    if whole.any():
        value[whole] = read(grid[whole])
    reason = (
        grid.isna()
        .idxmax(axis=1)
        .map(lambda point: f"has no result at {grid.columns.name} {point:g}")
    )
    return _frame(whose, grid.index, value, reason)


def no_values(whose: Whose, seeds: pd.Index, reason: str) -> pd.DataFrame:
    """Returns a frame as from `by_run` for seeds that all lack a value."""
    return _frame(whose, seeds, np.nan, reason)


def _frame(
    whose: Whose,
    seeds: pd.Index,
    value: pd.Series | float,
    reason: pd.Series | str,
) -> pd.DataFrame:
    columns = {"seed": seeds, "value": value, "reason": reason}
    frame = pd.DataFrame(columns, index=seeds).reset_index(drop=True)
    return frame.assign(workload=whose[0], contender=whose[1])


def _once(runs: pd.DataFrame, key: list[str]) -> None:
    twice = runs[runs.duplicated(key)]
    if len(twice):
        which = ", ".join(f"{name} {twice.iloc[0][name]}" for name in key)
        raise InputError(
            f"There are two runs for {which}. Pass one of each, for instance those of "
            "one setting of the other hyper-parameters."
        )


def pairs(
    measured: pd.DataFrame,
    reference: str,
    gains: Gains,
    margins: Mapping[str, float],
) -> list[Pairs]:
    """Pairs the runs of each contender with the reference's, by workload and seed.

    Args:
        measured: A frame as from `by_run`.
        reference: Label of the contender that the others are compared with.
        gains: Maps the values of the contender and of the reference to gains. A pair
            whose gain is NaN is left out and named.
        margins: The smallest gain that matters on each workload.

    Returns:
        The pairs of each contender except the reference, on each workload.

    Raises:
        InputError: If the reference has no run, or if a contender has two runs with
            one seed on one workload.
    """
    _once(measured, RUN)
    contenders = measured["contender"].unique()
    if reference not in contenders:
        raise InputError(
            f"There is no run of the reference {reference!r}; the contenders are "
            f"{', '.join(contenders)}."
        )
    return [
        _pairs_of(rows, workload, contender, reference, gains, margins[workload])
        for contender in contenders
        if contender != reference
        for workload, rows in measured.groupby("workload", sort=False)
    ]


def _pairs_of(
    rows: pd.DataFrame,
    workload: str,
    contender: str,
    reference: str,
    gains: Gains,
    margin: float,
) -> Pairs:
    two = rows[rows["contender"].isin([contender, reference])]
    value, reason = (
        two.pivot(index="seed", columns="contender", values=name).reindex(
            columns=[contender, reference]
        )
        for name in ("value", "reason")
    )
    whole = value.notna().all(axis=1)
    left_out = [
        f"{name} seed {seed} {reason.at[seed, name]}"
        if isinstance(reason.at[seed, name], str)
        else f"{name} seed {seed} was not run"
        for seed in value.index[~whole]
        for name in value.columns
        if np.isnan(value.at[seed, name])
    ]
    paired = value[whole]
    gained = gains(paired[contender].to_numpy(), paired[reference].to_numpy())
    known = ~np.isnan(gained)
    left_out += [f"seed {seed} was a miss for both" for seed in paired.index[~known]]
    return Pairs(contender, reference, workload, gained[known], margin, tuple(left_out))
