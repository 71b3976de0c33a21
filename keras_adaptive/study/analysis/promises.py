"""Convergence, generalization and sparse data, judged from a table of runs.

The module `robustness` judges the fourth promise, and `pairing` describes the table.
Each function returns the verdicts on one promise for all contenders except the
reference: for each measure one verdict on each workload and one over all workloads.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from keras_adaptive.errors import InputError, needs_extra
from keras_adaptive.study.analysis.pairing import (
    by_run,
    by_seed,
    grids,
    less_is_better,
    margins_of,
    more_is_better,
    of_phase,
    pairs,
    times_less,
    with_upward,
)
from keras_adaptive.study.analysis.scales import DIFFERENCE, RATIO
from keras_adaptive.study.analysis.stats.profiles import growth
from keras_adaptive.study.analysis.stats.values import tied
from keras_adaptive.study.analysis.verdicts import Measure, Verdict, judge

with needs_extra("study"):
    import pandas as pd

EVALUATION, COST = "compare", "cost"


def convergence(
    runs: pd.DataFrame,
    reference: str,
    phase: str = EVALUATION,
    margin: float = 1.05,
    alpha: float = 0.05,
    seed: int = 0,
) -> list[Verdict]:
    """Judges whether contenders reach the target in fewer steps and in less time.

    The effect is the reference's steps (seconds) divided by the contender's: 2 is twice
    as fast. If only one run of a pair reaches the target, it wins the pair. A pair in
    which neither run reaches it is left out and named.

    Args:
        runs: A table with `steps_to_target` and `seconds_to_target`: infinite if the
            target was never reached, NaN for all runs on a workload without a target.
        reference: Label of the contender that the others are compared with.
        phase: The phase of the runs to use.
        margin: The smallest speed-up that matters, at least 1.
        alpha: The family-wise error rate.
        seed: Decides the resamples of the intervals.

    Raises:
        InputError: If the table lacks a column, a value or the reference.

    Example:
        >>> runs = pd.DataFrame(
        ...     {
        ...         "workload": "digits",
        ...         "contender": ["sgd"] * 6 + ["adam"] * 6,
        ...         "seed": [*range(6)] * 2,
        ...         "phase": "compare",
        ...         "status": "finished",
        ...         "steps_to_target": [90, 80, 95, 85, 90, np.inf] + [40] * 6,
        ...         "seconds_to_target": [9.0, 8.0, 9.5, 8.5, 9.0, np.inf] + [9.0] * 6,
        ...     }
        ... )
        >>> for verdict in convergence(runs, "sgd"):
        ...     print(verdict.measure, verdict.workload, verdict.outcome)
        steps to target digits supported
        steps to target None undecided
        seconds to target digits undecided
        seconds to target None undecided
    """
    if not 1 <= margin < np.inf:
        raise InputError(f"The smallest speed-up that matters is >= 1, not {margin}.")
    columns = ["steps_to_target", "seconds_to_target"]
    runs = of_phase(runs, phase, *columns)
    targets = runs.groupby("workload")[columns].transform("count") > 0
    runs = runs.assign(**runs[columns].where(targets, np.inf))
    margins = dict.fromkeys(runs["workload"].unique(), float(np.log(margin)))
    return [
        verdict
        for column in columns
        if targets[column].any() or not targets.any(axis=None)  # compiled and untimed
        for verdict in judge(
            Measure("convergence", column.replace("_", " "), RATIO),
            pairs(by_run(runs, column, np.inf), reference, times_less, margins),
            alpha,
            seed,
        )
    ]


def generalization(
    runs: pd.DataFrame,
    reference: str,
    directions: Mapping[str, str],
    phase: str = EVALUATION,
    margins: Mapping[str, float] | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> list[Verdict]:
    """Judges whether contenders do better on test data, with a smaller train-test gap.

    Args:
        runs: A table with `test_metric` and `train_metric` at the end of training.
        reference: Label of the contender that the others are compared with.
        directions: For each workload `"max"` if more of its metric is better, `"min"`
            if less is.
        phase: The phase of the runs to use.
        margins: For each workload the smallest difference of its metric that
            matters. Without a margin every difference matters, and a promise is
            refuted only if the contender is worse.
        alpha: The family-wise error rate.
        seed: Decides the resamples of the intervals.

    Raises:
        InputError: If the table lacks a column, a value or the reference, or if a
            workload has no direction.
    """
    columns = ("test_metric", "train_metric")
    runs = with_upward(of_phase(runs, phase, *columns), directions, *columns)
    gap = runs["train_metric"] - runs["test_metric"]
    same = tied(runs["train_metric"], runs["test_metric"])
    runs = runs.assign(gap=gap.where(~same, 0.0))
    known = margins_of(runs, margins)
    measures = {
        "test metric": (by_run(runs, "test_metric", -np.inf), more_is_better),
        "train-test gap": (by_run(runs, "gap", np.inf), less_is_better),
    }
    return [
        verdict
        for name, (measured, gains) in measures.items()
        for verdict in judge(
            Measure("generalization", name, DIFFERENCE),
            pairs(measured, reference, gains, known),
            alpha,
            seed,
        )
    ]


def sparse(
    runs: pd.DataFrame,
    reference: str,
    directions: Mapping[str, str],
    phase: str = EVALUATION,
    margins: Mapping[str, float] | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> list[Verdict]:
    """Judges whether contenders do better where the informative features are rare.

    Args:
        runs: A table with `test_metric` and `rare_metric`, the metric on the test
            examples whose informative features are rare in training.
        reference: Label of the contender that the others are compared with.
        directions: As for `generalization`.
        phase: The phase of the runs to use.
        margins: As for `generalization`.
        alpha: The family-wise error rate.
        seed: Decides the resamples of the intervals.

    Raises:
        InputError: If the table lacks a column, a value or the reference, or if a
            workload has no direction.
    """
    columns = {
        "rare_metric": "test metric on rare features",
        "test_metric": "test metric on all",
    }
    runs = with_upward(of_phase(runs, phase, *columns), directions, *columns)
    known = margins_of(runs, margins)
    return [
        verdict
        for column, name in columns.items()
        for verdict in judge(
            Measure("sparse", name, DIFFERENCE),
            pairs(by_run(runs, column, -np.inf), reference, more_is_better, known),
            alpha,
            seed,
        )
    ]


def step_cost(
    runs: pd.DataFrame,
    reference: str,
    phase: str = COST,
    alpha: float = 0.05,
    seed: int = 0,
) -> list[Verdict]:
    """Judges whether a step's cost grows less with the vocabulary than the reference's.

    The measure is the exponent of the growth: 0 if a step costs the same with any
    vocabulary, 1 if the cost is proportional to the vocabulary.

    Args:
        runs: A table with `vocabulary` and `step_seconds`; a run for each vocabulary
            and seed.
        reference: Label of the contender that the others are compared with.
        phase: The phase of the runs to use.
        alpha: The family-wise error rate.
        seed: Decides the resamples of the intervals.

    Raises:
        InputError: If the table lacks a column, a value or the reference.
    """
    runs = of_phase(runs, phase, "vocabulary", "step_seconds")
    measured = [
        by_seed(
            whose, grid, lambda rows: [growth(rows.columns, row) for row in rows.values]
        )
        for whose, grid in grids(runs, "vocabulary", "step_seconds", np.inf).items()
    ]
    return judge(
        Measure("sparse", "growth of a step's cost with the vocabulary", DIFFERENCE),
        pairs(pd.concat(measured), reference, less_is_better, margins_of(runs, None)),
        alpha,
        seed,
    )
