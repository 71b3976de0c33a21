"""Recommends a contender for a workload: the cheapest that was not shown to be worse.

Two criteria are compared in turn: the test metric and the time to the target. In each,
the contender with the best median leads, of equals the first, and those that the pairs
of runs show to be worse than the leader are eliminated. All pairs of contenders are
tested (Wilcoxon's signed rank test with Holm's correction), so choosing the leader from
the same runs does no harm. Of the contenders that are left, the recommended one keeps
the fewest numbers of optimizer state for each weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from keras_adaptive.errors import needs_extra
from keras_adaptive.study.analysis.pairing import (
    by_run,
    more_is_better,
    pairs,
    with_upward,
)
from keras_adaptive.study.analysis.run_table import RunTable
from keras_adaptive.study.analysis.stats.medians import median
from keras_adaptive.study.analysis.stats.paired_tests import (
    holm,
    pairs_needed,
    signed_rank,
)
from keras_adaptive.study.analysis.stats.values import tied

with needs_extra("study"):
    import pandas as pd

ALPHA = 0.05
"""The family-wise error rate of each of the two comparisons."""


@dataclass(frozen=True)
class Recommendation:
    """The recommended contender, with the evidence for it.

    Args:
        workload: Name of the workload.
        contender: The contender to take; `None` if no run has finished.
        setting: Its tuned setting, in words.
        alternatives: The other contenders that were not shown to be worse.
        why: The recommendation in plain words.
    """

    workload: str
    contender: str | None
    setting: str
    alternatives: tuple[str, ...]
    why: str


def recommend(table: RunTable, workload: str) -> Recommendation:
    """Recommends a contender for a workload.

    Args:
        table: The runs of the study.
        workload: Name of the workload.

    Returns:
        The recommendation. If no difference could be shown, it is the cheapest
        contender. If there are too few pairs to show any difference, it is the leader
        as a guess.
    """
    tuned = table.tuned[table.tuned["workload"] == workload]
    runs = table.evaluation_on(workload)
    finished = runs[runs["status"] == "finished"]
    ordered = sorted(tuned["contender"], key=lambda name: name != table.reference)
    names = [name for name in ordered if name in set(finished["contender"])]
    if not names:
        why = "Take none of these: no run with a tuned setting has finished."
        return Recommendation(workload, None, "", (), why)
    left, comparisons = _eliminate(names, _criteria(table, workload, runs))
    sentences = [each.words for each in comparisons if each.worse]
    if missing := [name for name in tuned["contender"] if name not in names]:
        sentences.append(f"No run of {_listed(missing)} has finished.")
    if comparisons and comparisons[0].has_too_few_pairs:
        taken, guess = comparisons[0].leader, " as a guess"
        sentences.insert(0, comparisons[0].too_few)
    else:
        state = finished.groupby("contender")["state_per_weight"].median().round(1)
        taken, guess = min(left, key=lambda name: (state[name], names.index(name))), ""
        if comparisons:
            sentences += _why_cheapest(left, state.to_dict(), comparisons[-1].pairs)
    setting = tuned.set_index("contender")["setting"][taken]
    begin = f"Take {taken}{guess}, with learning rate {setting}."
    return Recommendation(
        workload,
        taken,
        setting,
        tuple(name for name in left if name != taken),
        " ".join([begin, *sentences]),
    )


def _criteria(
    table: RunTable, workload: str, runs: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """Returns the criteria by name: values for `pairs`, of which more is better."""
    upward = with_upward(runs, table.directions, "test_metric")
    metric = f"test {table.metrics[workload]}"
    criteria = {metric: by_run(upward, "test_metric", -math.inf)}
    # Without a target, or if compiled runs were not timed, there are no seconds.
    if runs["seconds_to_target"].notna().any():
        seconds = by_run(runs, "seconds_to_target", math.inf)
        criteria["time to the target"] = seconds.assign(value=-seconds["value"])
    return criteria


def _eliminate(
    names: Sequence[str], criteria: Mapping[str, pd.DataFrame]
) -> tuple[list[str], list[_Comparison]]:
    """Returns the contenders that no criterion eliminates, and the comparisons."""
    left, comparisons = list(names), []
    for criterion, measured in criteria.items():
        if len(left) > 1:
            comparison = _compare(criterion, measured, left)
            left = [name for name in left if name not in comparison.worse]
            comparisons.append(comparison)
    return left, comparisons


def _why_cheapest(
    left: Sequence[str], state: Mapping[str, float], pairs: int
) -> list[str]:
    """Returns sentences on how the recommended contender was chosen."""
    if len(left) == 1:
        return [
            "All others are out. In each comparison the probability of a wrong "
            f"elimination is at most {100 * ALPHA:g} %."
        ]
    kept = _listed(f"{name} {state[name]:g}" for name in left)
    return [
        f"No difference could be shown between {_listed(left)} with {_pairs(pairs)} of "
        "runs.",
        f"So take the one that keeps the fewest numbers for each weight ({kept}); of "
        "equals, the first.",
    ]


@dataclass(frozen=True)
class _Comparison:
    """The leader in a criterion, and the contenders shown to be worse.

    Args:
        criterion: Name of the criterion.
        leader: The contender with the best median.
        best: The absolute median of the leader.
        worse: The absolute medians of the contenders that are shown to be worse.
        contenders: The number of contenders that are compared.
        pairs: The smallest number of pairs of any two contenders.
        pairs_needed: The number of pairs that could show a difference.
    """

    criterion: str
    leader: str
    best: float
    worse: dict[str, float]
    contenders: int
    pairs: int
    pairs_needed: int

    @property
    def words(self) -> str:
        """The contenders that are worse, in words."""
        worse = _listed(
            f"{name} ({_size(value)})" for name, value in self.worse.items()
        )
        return (
            f"Shown to be worse than {self.leader} ({_size(self.best)}) in the "
            f"{self.criterion}: {worse}."
        )

    @property
    def has_too_few_pairs(self) -> bool:
        """Says whether there are too few pairs to show any difference."""
        return self.pairs < self.pairs_needed

    @property
    def too_few(self) -> str:
        """A note on too few pairs, in words."""
        return (
            f"It has the best median {self.criterion} ({_size(self.best)}), but "
            f"{_pairs(self.pairs)} of runs cannot show a difference between "
            f"{self.contenders} optimizers; {self.pairs_needed} can."
        )


def _compare(
    criterion: str, measured: pd.DataFrame, names: Sequence[str]
) -> _Comparison:
    """Compares contenders in a criterion of which more is better."""
    measured = measured[measured["contender"].isin(names)]
    middles = measured.dropna().groupby("contender")["value"].agg(median).to_dict()
    best = max(middles[name] for name in names)
    leader = next(name for name in names if tied(middles[name], best))
    no_margins = dict.fromkeys(measured["workload"].unique(), 0.0)
    tests = {
        (pair.contender, name): (pair, signed_rank(pair.gains))
        for name in names
        for pair in pairs(measured, name, more_is_better, no_margins)
        if names.index(pair.contender) < names.index(name)
    }
    corrected = holm([test.p_value for _, test in tests.values()])
    worse = {}
    for (two, (_, test)), p in zip(tests.items(), corrected, strict=True):
        if leader in two and p <= ALPHA:
            (other,) = set(two) - {leader}
            lead = test.balance if two[0] == leader else -test.balance
            if lead > 0:
                worse[other] = abs(middles[other])
    return _Comparison(
        criterion,
        leader,
        abs(middles[leader]),
        worse,
        len(names),
        min(len(pair.gains) for pair, _ in tests.values()),
        pairs_needed(ALPHA / len(tests)),
    )


def _pairs(count: int) -> str:
    return f"{count} pair{'s' * (count != 1)}"


def _size(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "none"


def _listed(words: Iterable[str]) -> str:
    """Joins words by commas and an "and"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
