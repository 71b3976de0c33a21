"""The verdicts on all promises of a study."""

from __future__ import annotations

from collections.abc import Callable

from keras_adaptive.errors import needs_extra
from keras_adaptive.study.analysis.promises import convergence, generalization, sparse
from keras_adaptive.study.analysis.robustness import robustness
from keras_adaptive.study.analysis.run_table import RunTable
from keras_adaptive.study.analysis.verdicts import Verdict

with needs_extra("study"):
    import pandas as pd

Judge = Callable[[RunTable], list[Verdict]]
"""Judges the promises that a study is about, from its runs."""


def judge_all(table: RunTable) -> list[Verdict]:
    """Judges every promise for which a study has the runs.

    Args:
        table: The runs.

    Returns:
        The verdicts, promise by promise. Those on robustness need a grid, so there are
        none if a tuner chose the settings.
    """
    reference, directions = table.reference, table.directions
    evaluation = table.evaluation
    verdicts: list[Verdict] = []
    if _takes_part(reference, evaluation):
        verdicts += convergence(evaluation, reference)
        verdicts += generalization(evaluation, reference, directions)
    for name in table.grids:
        grid = table.tuning_along(name)
        if _takes_part(reference, grid):
            verdicts += robustness(grid, reference, directions, over=name)
    rare = with_rare(evaluation)
    if _takes_part(reference, rare):
        verdicts += sparse(rare, reference, directions)
    return verdicts


def _takes_part(reference: str, runs: pd.DataFrame) -> bool:
    return reference in set(runs["contender"])


def with_rare(runs: pd.DataFrame) -> pd.DataFrame:
    """Returns the runs on the workloads that have the slice `rare`."""
    if "rare_metric" not in runs:
        return runs[:0]
    finished = runs[runs["status"] == "finished"]
    measured = finished[finished["rare_metric"].notna()]
    return runs[runs["workload"].isin(measured["workload"])]
