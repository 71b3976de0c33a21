"""Which contender to take on a workload: the cheapest of those not shown to be worse.

Two things are looked at, one after the other: the test metric and the time to the
target. In each, the contender with the best median leads, and those that the pairs of
runs show to be worse than it are out. All pairs of contenders are tested (Wilcoxon's
signed rank test, corrected by Holm's method), so that it does no harm that the leader
is picked from the same runs. Of those that are left the one is taken that keeps the
fewest numbers for each weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_adaptive.errors import needs_extra
from keras_adaptive.study.analysis.pairing import (
    by_run,
    more_is_better,
    pairs,
    with_upward,
)
from keras_adaptive.study.analysis.stats import holm, median, pairs_needed, signed_rank

with needs_extra("study"):
    import pandas as pd

if TYPE_CHECKING:
    from keras_adaptive.study.results import Results

ALPHA = 0.05
"""The chance that anyone is called worse who is not, in each of the two looks."""


@dataclass(frozen=True)
class Recommendation:
    """What to take, and how sure that is.

    Args:
        workload: On what.
        contender: Which to take; `None` if none has come to an end.
        setting: Its tuned setting, in words.
        alternatives: The others that were not shown to be worse.
        why: The recommendation in plain words.
    """

    workload: str
    contender: str | None
    setting: str
    alternatives: tuple[str, ...]
    why: str


def recommend(results: Results, workload: str) -> Recommendation:
    """Says which contender to take on a workload.

    Args:
        results: The results of a study.
        workload: Name of the workload.

    Returns:
        The recommendation. That no difference could be shown is one too: then the
        cheapest is to be taken. With too few pairs to show any, it is a guess.
    """
    tuned = results.tuned[results.tuned["workload"] == workload]
    runs = results.judged(workload)
    ended = runs[runs["status"] == "finished"]
    ordered = sorted(tuned["contender"], key=lambda name: name != results.reference)
    names = [name for name in ordered if name in set(ended["contender"])]
    if not names:
        why = "Take none of these: no run with a tuned setting has finished."
        return Recommendation(workload, None, "", (), why)
    metric, direction = results.metrics[workload], results.directions[workload]
    upward = with_upward(runs, {workload: direction}, "test_metric")
    measured = {f"test {metric}": by_run(upward, "test_metric", -math.inf)}
    if not math.isnan(results.targets[workload]):
        seconds = by_run(runs, "seconds_to_target", math.inf)
        measured["time to the target"] = seconds.assign(value=-seconds["value"])
    left, looks = names, []
    for what, values in measured.items():
        if len(left) > 1:
            look = _look(what, values, left)
            left = [name for name in left if name not in look.worse]
            looks.append(look)
    setting_of = tuned.set_index("contender")["setting"]
    sentences = [look.words for look in looks if look.worse]
    if missing := [name for name in tuned["contender"] if name not in names]:
        sentences.append(f"No run of {_listed(missing)} has finished.")
    if looks and looks[0].pairs < looks[0].pairs_needed:
        taken, guess = looks[0].leader, " as a guess"
        sentences.insert(0, looks[0].too_few)
    else:
        state = ended.groupby("contender")["state_per_weight"].median().round(1)
        taken, guess = min(left, key=lambda name: (state[name], names.index(name))), ""
        if len(left) > 1:
            kept = _listed(f"{name} {state[name]:g}" for name in left)
            sentences += [
                f"No difference could be shown between {_listed(left)} with "
                f"{_pairs(looks[-1].pairs)} of runs.",
                f"So take the one that keeps the fewest numbers for each weight "
                f"({kept}); of equals, the first.",
            ]
        elif looks:
            sentences.append(
                "All others are out. For each thing looked at, the chance that one is "
                f"called worse wrongly is at most {100 * ALPHA:g} %."
            )
    others = tuple(name for name in left if name != taken)
    setting = setting_of[taken]
    begin = f"Take {taken}{guess}, with learning rate {setting}."
    return Recommendation(
        workload, taken, setting, others, " ".join([begin, *sentences])
    )


@dataclass(frozen=True)
class _Look:
    """Who leads in something, and whom the pairs show to be worse.

    Args:
        what: What is looked at.
        leader: Who has the best median.
        worse: The size of the median of those that are shown to be worse.
        best: That of the leader.
        contenders: How many are compared.
        pairs: How many pairs there are of any two of them at least.
        pairs_needed: How many of them could show a difference.
    """

    what: str
    leader: str
    best: float
    worse: dict[str, float]
    contenders: int
    pairs: int
    pairs_needed: int

    @property
    def words(self) -> str:
        worse = _listed(
            f"{name} ({_size(value)})" for name, value in self.worse.items()
        )
        return (
            f"Shown to be worse than {self.leader} ({_size(self.best)}) in the "
            f"{self.what}: {worse}."
        )

    @property
    def too_few(self) -> str:
        return (
            f"It has the best median {self.what} ({_size(self.best)}), but "
            f"{_pairs(self.pairs)} of runs cannot show a difference between "
            f"{self.contenders} optimizers; {self.pairs_needed} can."
        )


def _look(what: str, measured: pd.DataFrame, names: Sequence[str]) -> _Look:
    """Compares contenders in something of which more is better."""
    measured = measured[measured["contender"].isin(names)]
    middles = measured.dropna().groupby("contender")["value"].agg(median)
    leader = max(names, key=middles.get)
    no_margins = dict.fromkeys(measured["workload"], 0.0)
    tests = {
        (pair.contender, name): (pair, signed_rank(pair.gains))
        for name in names
        for pair in pairs(measured, name, more_is_better, no_margins)
        if names.index(pair.contender) < names.index(name)
    }
    corrected = holm([test.p_value for _, test in tests.values()])
    worse = {}
    for (two, (_, test)), p in zip(tests.items(), corrected, strict=True):
        (other,) = set(two) - {leader} if leader in two else (None,)
        ahead = test.balance if two[0] == leader else -test.balance
        if other and p <= ALPHA and ahead > 0:
            worse[other] = abs(middles[other])
    return _Look(
        what,
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
