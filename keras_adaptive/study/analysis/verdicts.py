"""The rule that turns paired gains into verdicts, the same for all promises.

A promise says that a contender is better than a reference by a margin that matters. It
is *supported* if the pairs show that the contender is better, *refuted* if they show
that it is not better by the margin, and *undecided* otherwise. Wilcoxon's signed rank
test decides, with p values corrected by Holm's method. The interval of the effect is a
description only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_adaptive.errors import InputError
from keras_adaptive.study.analysis.scales import LEAD, RATIO, Scale, lead
from keras_adaptive.study.analysis.stats.medians import (
    Estimate,
    median,
    median_interval,
)
from keras_adaptive.study.analysis.stats.paired_tests import (
    SignedRank,
    differences,
    holm,
    pairs_needed,
    signed_rank,
)

NAMED = 5
SUPPORTED, REFUTED, UNDECIDED = "supported", "refuted", "undecided"


@dataclass(frozen=True)
class Measure:
    """The measurement by which a promise is judged.

    Args:
        promise: `"convergence"`, `"generalization"`, `"robustness"` or `"sparse"`.
        name: Name of the measurement, such as `"steps to target"`.
        scale: `RATIO` if the gains are logarithms of ratios and comparable between
            workloads, `DIFFERENCE` if they are in a unit of the workload.
    """

    promise: str
    name: str
    scale: Scale


@dataclass(frozen=True)
class Pairs:
    """The gains of a contender on a workload, pair by pair.

    Args:
        contender: The contender.
        reference: The contender that it is compared with.
        workload: The workload; `None` for all workloads together.
        gains: One gain for each pair: above 0 if the contender was better, infinite
            if only one of the two has a finite value.
        margin: The smallest gain that matters; 0 if every gain does.
        left_out: The runs, in words, whose pairs are missing.

    Raises:
        InputError: If a gain is NaN, or the margin is negative or not finite.
    """

    contender: str
    reference: str
    workload: str | None
    gains: np.ndarray
    margin: float = 0.0
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks the gains and the margin."""
        if np.isnan(self.gains).any():
            raise InputError(
                f"A gain of {self.contender} on {self.workload} is NaN. Leave out the "
                "pair and name it in `left_out`."
            )
        if not 0 <= self.margin < np.inf:
            raise InputError(
                f"The smallest gain that matters is at least 0, not {self.margin}."
            )


@dataclass(frozen=True)
class Verdict:
    """The verdict on a promise, with the evidence for it.

    Args:
        promise: The promise.
        measure: Name of the measurement.
        contender: The contender.
        reference: The contender that it was compared with.
        workload: The workload; `None` for all workloads together, where each of them
            is one pair.
        outcome: `"supported"`, `"refuted"` or `"undecided"`.
        effect: The median effect, NaN without pairs. It is a ratio (2 is twice as fast)
            or a difference (positive is better, whatever the direction of the metric).
            Differences on several workloads have no common unit; over all workloads
            the effect is the share of pairs won minus the share lost.
        interval: The 95 % bootstrap interval of the effect, not corrected.
        neutral: The effect of no difference: 1 for a ratio, 0 for a difference.
        pairs: The number of pairs, ties included.
        p_value: The p value of the test that decided: against the margin if the promise
            is refuted, else against no gain.
        corrected_p: The p value, corrected for the number of workloads.
        smallest_p: The smallest p value that the pairs that differ can give.
        why: The verdict in plain words.
        left_out: The runs, in words, whose pairs are missing.
    """

    promise: str
    measure: str
    contender: str
    reference: str
    workload: str | None
    outcome: str
    effect: float
    interval: tuple[float, float]
    neutral: float
    pairs: int
    p_value: float
    corrected_p: float
    smallest_p: float
    why: str
    left_out: tuple[str, ...]


def judge(
    measure: Measure,
    comparisons: Sequence[Pairs],
    alpha: float = 0.05,
    seed: int = 0,
) -> list[Verdict]:
    """Judges a promise on every workload and over all workloads.

    The comparisons of a contender on all workloads are one family for the correction:
    for each contender and measure, `alpha` bounds the probability of a wrong
    "supported" or "refuted" on any of them. Over all workloads each workload is one
    pair, since seeds tell nothing about other workloads.

    Args:
        measure: The measurement.
        comparisons: One for each contender and workload.
        alpha: The family-wise error rate.
        seed: Decides the resamples of the intervals.

    Returns:
        The verdicts of each contender on the workloads, then over all of them.

    Example:
        >>> speed = Measure("convergence", "steps to target", RATIO)
        >>> gains = np.log([1.5, 1.6, 1.4, 1.5, 1.7])
        >>> verdict, overall = judge(speed, [Pairs("adam", "sgd", "digits", gains)])
        >>> verdict.outcome, round(verdict.effect, 3)
        ('undecided', 1.5)
        >>> import textwrap
        >>> print(textwrap.fill(verdict.why, 70))
        1.5 [1.4, 1.7] times as fast as sgd. 5 pairs cannot decide this: the
        smallest possible p is 0.0625; 6 pairs that differ can.
    """
    if len({(each.contender, each.workload) for each in comparisons}) < len(
        comparisons
    ):
        raise InputError("A contender is compared twice on one workload.")
    families: dict[str, list[Pairs]] = {}
    for each in comparisons:
        families.setdefault(each.contender, []).append(each)
    return [
        verdict
        for family in families.values()
        for verdict in (
            *_judge_family(measure, measure.scale, family, alpha, seed),
            *_judge_family(measure, *_over_workloads(measure, family), alpha, seed),
        )
    ]


def _over_workloads(
    measure: Measure, family: Sequence[Pairs]
) -> tuple[Scale, list[Pairs]]:
    """Returns a comparison in which each workload is one pair, with its scale."""
    comparable = measure.scale is RATIO
    scale, summary = (RATIO, median) if comparable else (LEAD, lead)
    first = family[0]
    overall = Pairs(
        first.contender,
        first.reference,
        None,
        np.array([summary(each.gains) for each in family if len(each.gains)]),
        max(each.margin for each in family) if comparable else 0.0,
        tuple(
            f"{each.workload} has no pairs" for each in family if not len(each.gains)
        ),
    )
    return scale, [overall]


@dataclass(frozen=True)
class _Test:
    """A signed rank test as one of a family."""

    of_pairs: SignedRank
    corrected_p: float
    smallest_corrected_p: float

    def shows(self, sign: int, alpha: float) -> bool:
        """Says whether gains above (1) or below (-1) the tested value are shown."""
        return self.corrected_p <= alpha and self.of_pairs.balance * sign > 0

    @property
    def words(self) -> str:
        p, corrected = f"{self.of_pairs.p_value:.2g}", f"{self.corrected_p:.2g}"
        return f"p = {p}" + (f", corrected {corrected}" if p != corrected else "")


def _test_family(samples: Sequence[np.ndarray]) -> list[_Test]:
    tests = [signed_rank(sample) for sample in samples]
    corrected = holm([test.p_value for test in tests]).tolist()
    smallest = holm([test.smallest_p for test in tests]).tolist()
    return [_Test(*row) for row in zip(tests, corrected, smallest, strict=True)]


def _judge_family(
    measure: Measure,
    scale: Scale,
    family: Sequence[Pairs],
    alpha: float,
    seed: int,
) -> list[Verdict]:
    tests = zip(
        _test_family([each.gains for each in family]),
        _test_family(
            [
                differences(each.gains, np.full(each.gains.shape, each.margin))
                for each in family
            ]
        ),
        strict=True,
    )
    nothing = Estimate(np.nan, np.nan, np.nan)
    verdicts = []
    for pairs, (none, margin) in zip(family, tests, strict=True):
        gain = median_interval(pairs.gains, seed) if len(pairs.gains) else nothing
        case = _Case(pairs, scale, gain, none, margin, len(family), alpha)
        verdicts.append(case.verdict(measure))
    return verdicts


@dataclass(frozen=True)
class _Case:
    """The evidence for a verdict, with the rule and its words."""

    pairs: Pairs
    scale: Scale
    gain: Estimate
    against_none: _Test
    against_margin: _Test
    family: int
    alpha: float

    def verdict(self, measure: Measure) -> Verdict:
        """Returns the verdict by a measure."""
        pairs, scale, gain = self.pairs, self.scale, self.gain
        test = self.against_margin if self.outcome == REFUTED else self.against_none
        return Verdict(
            promise=measure.promise,
            measure=measure.name,
            contender=pairs.contender,
            reference=pairs.reference,
            workload=pairs.workload,
            outcome=self.outcome,
            effect=scale.effect(gain.value),
            interval=(scale.effect(gain.low), scale.effect(gain.high)),
            neutral=scale.neutral,
            pairs=len(pairs.gains),
            p_value=test.of_pairs.p_value,
            corrected_p=test.corrected_p,
            smallest_p=test.of_pairs.smallest_p,
            why=self.why,
            left_out=pairs.left_out,
        )

    @property
    def outcome(self) -> str:
        value, margin = self.gain.value, self.pairs.margin
        if value > 0 and value >= margin and self.against_none.shows(1, self.alpha):
            return SUPPORTED
        if value < margin and self.against_margin.shows(-1, self.alpha):
            return REFUTED
        return UNDECIDED

    @property
    def why(self) -> str:
        parts = [self._effect, self._reason] if len(self.pairs.gains) else ["No pairs."]
        if self.pairs.left_out:
            named = "; ".join(self.pairs.left_out[:NAMED])
            more = len(self.pairs.left_out) - NAMED
            parts.append(f"Left out: {named}{f'; and {more} more' * (more > 0)}.")
        return " ".join(parts)

    @property
    def _effect(self) -> str:
        value, low, high = map(
            self.scale.write, (self.gain.value, self.gain.low, self.gain.high)
        )
        words = self.scale.words.format(
            f"{value} [{low}, {high}]", reference=self.pairs.reference
        )
        if self.pairs.workload is None:
            won = np.sum(self.pairs.gains > 0)
            words += f", better on {won} of {len(self.pairs.gains)} workloads"
        return f"{words}."

    @property
    def _reason(self) -> str:
        none, margin = self.against_none, self.against_margin
        count = len(self.pairs.gains)
        noun = "pair" if self.pairs.workload else "workload"
        pairs = f"{count} {noun}{'s' * (count != 1)}"
        enough = f"the {self.scale.write(self.pairs.margin)} that would matter"
        if self.outcome == SUPPORTED:
            return f"{pairs}, {none.words}."
        if self.outcome == REFUTED:
            less = "Worse" if self.gain.value < 0 else f"Less than {enough}"
            return f"{less}: {pairs}, {margin.words}."
        if not none.of_pairs.pairs:
            return f"No difference in {pairs}."
        if min(none.smallest_corrected_p, margin.smallest_corrected_p) > self.alpha:
            return self._floor(pairs, noun)
        if none.shows(1, self.alpha) and 0 < self.gain.value < self.pairs.margin:
            return f"Better ({pairs}, {none.words}), but {enough} is not shown."
        if none.corrected_p <= self.alpha:
            return f"The median of {pairs} and their ranks disagree ({none.words})."
        return f"{pairs} do not decide this: {none.words}."

    def _floor(self, pairs: str, noun: str) -> str:
        differ = self.against_none.of_pairs.pairs
        smallest = f"{self.against_none.of_pairs.smallest_p:.3g}"
        least = f"{self.against_none.smallest_corrected_p:.3g}"
        needed = pairs_needed(self.alpha / self.family)
        verb = "differs" if differ == 1 else "differ"
        ties = f", of which {differ} {verb}," if differ < len(self.pairs.gains) else ""
        corrected = f", corrected {least}" if least != smallest else ""
        return (
            f"{pairs}{ties} cannot decide this: the smallest possible p is {smallest}"
            f"{corrected}; {needed} {noun}s that differ can."
        )


def by_measure(verdicts: Sequence[Verdict]) -> dict[tuple[str, str], list[Verdict]]:
    """Groups verdicts by promise and measure.

    Verdicts over all workloads are left out if there is only one workload.

    Args:
        verdicts: The verdicts of a study.
    """
    single = len({each.workload for each in verdicts if each.workload}) == 1
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for each in verdicts:
        if each.workload or not single:
            groups.setdefault((each.promise, each.measure), []).append(each)
    return groups
