"""All promises, judged from the results of a study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_adaptive.errors import needs_extra
from keras_adaptive.study.analysis.promises import convergence, generalization, sparse
from keras_adaptive.study.analysis.robustness import robustness
from keras_adaptive.study.analysis.verdicts import Verdict

with needs_extra("study"):
    import pandas as pd

if TYPE_CHECKING:
    from keras_adaptive.study.results import Results

RATE = "learning_rate"


def judge_all(results: Results) -> list[Verdict]:
    """Judges every promise that the runs of a study say something about.

    Args:
        results: The results of a study.

    Returns:
        The verdicts, promise by promise.
    """
    runs, reference = results.runs, results.reference
    directions = results.directions
    verdicts: list[Verdict] = []
    judged = runs[runs["phase"] == "compare"]
    if reference in set(judged["contender"]):
        verdicts += convergence(judged, reference)
        verdicts += generalization(judged, reference, directions)
    for over in hyper_parameters(results):
        grid = along(results, over)
        if reference in set(grid["contender"]):
            verdicts += robustness(grid, reference, directions, over=over)
    rare = with_rare(judged)
    if reference in set(rare["contender"]):
        verdicts += sparse(rare, reference, directions)
    return verdicts


def hyper_parameters(results: Results) -> list[str]:
    """Returns the names of the hyper-parameters that were tuned."""
    tuned = results.runs[results.runs["phase"] == "tune"]
    seconds = [record.setting.second for record in results.records]
    names = dict.fromkeys([RATE, *(second[0] for second in seconds if second)])
    return [name for name in names if tuned[name].notna().any()]


def along(results: Results, over: str) -> pd.DataFrame:
    """Returns the tuning runs along one hyper-parameter, the others as chosen.

    Args:
        results: The results of a study.
        over: The hyper-parameter.

    Returns:
        At most one run for each workload, contender, value and seed.
    """
    runs = results.runs[results.runs["phase"] == "tune"].dropna(subset=[over])
    whose = ["workload", "contender"]
    for other in hyper_parameters(results):
        if other != over:
            chosen = results.tuned.set_index(whose).reindex(columns=[other])
            fixed = runs[whose].merge(chosen, "left", left_on=whose, right_index=True)
            runs = runs[(runs[other] == fixed[other]) | runs[other].isna()]
    return runs


def with_rare(runs: pd.DataFrame) -> pd.DataFrame:
    """Returns the runs of the workloads that have the slice `rare`."""
    if "rare_metric" not in runs:
        return runs[:0]
    finished = runs[runs["status"] == "finished"]
    whole = finished[finished["rare_metric"].notna()]
    return runs[runs["workload"].isin(whole["workload"])]
