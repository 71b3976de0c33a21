"""The statistics of a study, as pure functions over arrays.

Whatever draws takes a seed or a generator; there is no global random state. Infinity is
a value like any other: it is the cost of a target never reached and the loss of a run
that diverged. Hence medians, never means. NaN is an error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from keras_adaptive.errors import StudyError, needs_extra

with needs_extra("study"):
    from scipy import stats

Seed: TypeAlias = int | np.random.Generator
RESAMPLES = 2_000


@dataclass(frozen=True)
class Estimate:
    """A value with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class SignedRank:
    """What Wilcoxon's signed rank test says of paired differences.

    Args:
        p_value: Two-sided.
        pairs: The pairs that differ; the others do not count.
        smallest_p: The smallest p value which so many pairs can have.
        balance: From -1 to 1: the share of the rank sum that is of positive differences
            minus that of negative ones; 0 if no pair differs.
    """

    p_value: float
    pairs: int
    smallest_p: float
    balance: float


def _numbers(values: ArrayLike) -> np.ndarray:
    """Returns the values as floats, none of them NaN."""
    numbers = np.asarray(values, dtype=float)
    if np.isnan(numbers).any():
        raise StudyError(
            "A value is NaN. Give infinity for what was never reached, leave out what "
            "was not measured."
        )
    return numbers


def _some_numbers(values: ArrayLike) -> np.ndarray:
    """Returns the values as floats, at least one and none of them NaN."""
    numbers = _numbers(values)
    if not numbers.size:
        raise StudyError("There are no values; at least one is needed.")
    return numbers


def _paired(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    first, second = _numbers(first), _numbers(second)
    if first.shape != second.shape:
        raise StudyError(
            f"Pairs need two arrays of one shape, not {first.shape} and {second.shape}."
        )
    return first, second


def upward(values: ArrayLike, direction: str) -> np.ndarray:
    """Returns the values with their sign such that more is better.

    Args:
        values: Values of a metric.
        direction: `"max"` if more of the metric is better, `"min"` if less is.

    Raises:
        StudyError: If the direction is something else.

    Example:

    >>> upward([1.0, 2.0], "min").tolist()
    [-1.0, -2.0]
    """
    if direction not in ("max", "min"):
        raise StudyError(f"A direction is 'max' or 'min', not {direction!r}.")
    values = np.asarray(values, dtype=float)
    return values if direction == "max" else -values


def median(values: ArrayLike) -> np.ndarray:
    """Returns the medians along the last axis, of values that may be infinite.

    Args:
        values: Any numbers but NaN.

    Returns:
        As NumPy's, but the middle between minus and plus infinity is 0: as many pairs
        are infinitely better as infinitely worse.

    Raises:
        StudyError: If there are no values, or NaN among them.

    Example:

    >>> float(median([1, 2, np.inf])), float(median([-np.inf, np.inf]))
    (2.0, 0.0)
    """
    ordered = np.sort(_some_numbers(values), axis=-1)
    count = ordered.shape[-1]
    with np.errstate(invalid="ignore"):
        middle = ordered[..., (count - 1) // 2] / 2 + ordered[..., count // 2] / 2
    return np.where(np.isnan(middle), 0.0, middle)[()]


def _percentile_interval(
    value: float, draws: np.ndarray, confidence: float
) -> Estimate:
    """Makes an interval of resampled values, between two of which nothing is mixed."""
    tail = (len(draws) - 1) * (1 - confidence) / 2
    ordered = np.sort(draws)
    low, high = ordered[math.floor(tail)], ordered[-1 - math.floor(tail)]
    return Estimate(float(value), float(low), float(high))


def median_interval(
    values: ArrayLike,
    seed: Seed,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Returns a median with its percentile bootstrap interval.

    The ends of the interval are medians of resamples, never something between two of
    them, so that an end may be infinite but is never half of infinity.

    Args:
        values: One value a run, infinite for a miss.
        seed: Decides the resamples.
        confidence: Probability that the interval promises.
        resamples: How many there are.

    Raises:
        StudyError: If there are no values, or NaN among them.

    References:
        Efron 1979, "Bootstrap methods: another look at the jackknife".

    Example:

    >>> median_interval([110, 120, 130, 140, np.inf], seed=0)
    Estimate(value=130.0, low=110.0, high=inf)
    """
    values = _some_numbers(values)
    rng = np.random.default_rng(seed)
    draws = rng.choice(values, size=(resamples, len(values)))
    return _percentile_interval(median(values), median(draws), confidence)


def differences(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Returns first - second, and 0 for equals, infinite ones too.

    Example:

    >>> differences([3, np.inf, np.inf], [1, 1, np.inf]).tolist()
    [2.0, inf, 0.0]
    """
    first, second = _paired(first, second)
    with np.errstate(invalid="ignore"):
        return np.where(first == second, 0.0, first - second)


def log_ratios(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Returns log(first / second), and 0 for equals, infinite ones and zeros too.

    Raises:
        StudyError: If a value is negative.

    Example:

    >>> log_ratios([1, np.inf, np.inf], [np.e, 5, np.inf]).tolist()
    [-1.0, inf, 0.0]
    """
    first, second = _paired(first, second)
    if (first < 0).any() or (second < 0).any():
        raise StudyError("A ratio needs numbers that are not negative.")
    with np.errstate(divide="ignore"):
        return differences(np.log(first), np.log(second))


def paired_difference(first: ArrayLike, second: ArrayLike, seed: Seed) -> Estimate:
    """Returns the median of first - second, with the interval of a paired bootstrap.

    Args:
        first: One value a pair.
        second: The value it is compared to.
        seed: Decides the resamples, which are of pairs.

    Example:

    >>> paired_difference([3, 4, 5], [1, 2, 3], seed=0)
    Estimate(value=2.0, low=2.0, high=2.0)
    """
    return median_interval(differences(first, second), seed)


def paired_log_ratio(first: ArrayLike, second: ArrayLike, seed: Seed) -> Estimate:
    """Returns the median of log(first / second), with that of a paired bootstrap.

    Args:
        first: One value a pair, not negative; infinite for a miss.
        second: The value it is compared to.
        seed: Decides the resamples, which are of pairs.

    Example:

    >>> paired_log_ratio([1, 2, 3], [1, 2, 3], seed=0).value
    0.0
    """
    return median_interval(log_ratios(first, second), seed)


def smallest_p(pairs: int) -> float:
    """Returns the smallest two-sided p value that Wilcoxon's test can give.

    Args:
        pairs: Pairs that differ.

    Example:

    >>> smallest_p(5)
    0.0625
    """
    return min(1.0, 2.0 ** (1 - pairs))


def pairs_needed(alpha: float) -> int:
    """Returns how many pairs can have a p value of `alpha` at all.

    Example:

    >>> pairs_needed(0.05)
    6
    """
    return next(pairs for pairs in range(1, 1_000) if smallest_p(pairs) <= alpha)


def signed_rank(paired_differences: ArrayLike) -> SignedRank:
    """Tests whether paired differences are symmetric about 0, by Wilcoxon's test.

    Pairs without a difference are left out, as Wilcoxon did: they say nothing about who
    is better, and do not count as pairs. Infinite differences rank highest, and equal
    ones share their rank. The p value is exact, with and without ties.

    Args:
        paired_differences: One a pair.

    Returns:
        The test; its p value is 1 if no pair differs, or there is none.

    Raises:
        StudyError: If a difference is NaN.

    References:
        Wilcoxon 1945, "Individual comparisons by ranking methods"; the balance is Kerby
        2014, "The simple difference formula".

    Example:

    >>> signed_rank([1, 2, 3, 4, np.inf, 0])
    SignedRank(p_value=0.0625, pairs=5, smallest_p=0.0625, balance=1.0)
    """
    values = _numbers(paired_differences)
    values = values[values != 0]
    pairs = len(values)
    if not pairs:
        return SignedRank(p_value=1.0, pairs=0, smallest_p=1.0, balance=0.0)
    _, group, sizes = np.unique(np.abs(values), return_inverse=True, return_counts=True)
    doubled_ranks = (2 * np.cumsum(sizes) - sizes + 1)[group]
    positive, total = doubled_ranks[values > 0].sum(), doubled_ranks.sum()
    chances = _rank_sums(doubled_ranks)
    tails = chances[: positive + 1].sum(), chances[positive:].sum()
    return SignedRank(
        p_value=float(min(1.0, 2 * min(tails))),
        pairs=pairs,
        smallest_p=smallest_p(pairs),
        balance=float((2 * positive - total) / total),
    )


def _rank_sums(ranks: np.ndarray) -> np.ndarray:
    """Returns how likely each sum of ranks is, each of them in it or not by chance."""
    chances = np.zeros(ranks.sum() + 1)
    chances[0] = 1.0
    for rank in ranks:
        chances /= 2
        chances[rank:] += chances[:-rank].copy()
    return chances


def holm(p_values: ArrayLike) -> np.ndarray:
    """Returns p values corrected for their number.

    All those at most α are right together with probability 1 - α, however the tests
    depend on each other.

    References:
        Holm 1979, "A simple sequentially rejective multiple test procedure".

    Example:

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p_values = _numbers(p_values)
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return corrected


def best(values: ArrayLike, direction: str) -> np.ndarray:
    """Returns the best of each curve along the last axis; NaN is never the best.

    Args:
        values: Values of a metric, in the order in which they were measured.
        direction: `"max"` or `"min"`.

    Example:

    >>> float(best([0.4, 0.9, np.nan], "max"))
    0.9
    """
    rising = upward(values, direction)
    highest = np.max(rising, axis=-1, initial=-np.inf, where=~np.isnan(rising))
    return upward(highest, direction)[()]


def target(bests: ArrayLike) -> float:
    """Returns the target that the tuned reference sets: the median of its best values.

    Take the best values of three quarters of the budget, so that all runs have a third
    more time than those that set the target, as in AlgoPerf. With those of the whole
    budget half of the reference's runs miss by construction, and a slower contender
    misses with them: then 10 pairs can never show that it is slower.

    Args:
        bests: The best validation metric of each seed of the tuned reference.

    Raises:
        StudyError: If that is not finite: half of the runs have no value.

    References:
        Dahl et al. 2023, "Benchmarking neural network training algorithms",
        arXiv:2306.07179.

    Example:

    >>> target([0.91, 0.93, 0.96])
    0.93
    """
    value = float(median(bests))
    if not np.isfinite(value):
        raise StudyError(
            "The reference sets no target: half of its runs or more have no finite "
            "metric. Tune it on a wider grid, or choose another reference."
        )
    return value


def to_target(
    places: ArrayLike, values: ArrayLike, target: float, direction: str
) -> np.ndarray:
    """Returns where curves along the last axis first reach a target.

    Args:
        places: Steps or seconds, rising, of a shape that broadcasts to that of the
            values.
        values: The metric at these places; NaN reaches nothing.
        target: The value to reach.
        direction: `"max"` if more of the metric is better, `"min"` if less is.

    Returns:
        The places; infinity for a curve that never reaches the target.

    Example:

    >>> float(to_target([10, 20, 30], [0.5, 0.8, 0.7], 0.8, "max"))
    20.0
    >>> float(to_target([10, 20, 30], [3.0, 2.0, 1.0], 0.5, "min"))
    inf
    """
    reached = upward(values, direction) >= upward(target, direction)
    places = np.broadcast_to(np.asarray(places, dtype=float), reached.shape)
    return np.min(places, axis=-1, initial=np.inf, where=reached)


def sensitivity(losses: ArrayLike, initial_loss: ArrayLike) -> np.ndarray:
    """Returns how much is lost, on average, by a learning rate that is not the best.

    It is the mean over the grid of min(loss, initial loss) - best loss, in units of the
    loss. A rate that diverges costs as much as not training. An optimizer that learns
    nothing at any rate loses nothing: look at its best loss too.

    Args:
        losses: The final loss for each learning rate of a grid, along the last axis;
            infinite where training diverged.
        initial_loss: The loss before training, for each grid.

    References:
        Wortsman et al. 2023, "Small-scale proxies for large-scale Transformer training
        instabilities", arXiv:2309.14322.

    Example:

    >>> float(sensitivity([1.0, 0.5, np.inf], 2.0))
    0.6666666666666666
    """
    capped = np.minimum(_some_numbers(losses), _some_numbers(initial_loss)[..., None])
    return np.mean(capped - capped.min(axis=-1, keepdims=True), axis=-1)


def share_lost(losses: ArrayLike, initial_loss: ArrayLike) -> np.ndarray:
    """Returns what share of the possible improvement each learning rate leaves out.

    Args:
        losses: As for `sensitivity`.
        initial_loss: As for `sensitivity`.

    Returns:
        (min(loss, initial loss) - best loss) / (initial loss - best loss) for each
        rate: 0 for the best, 1 for one as good as not training. Where no rate improves
        on the initial loss, 1 for all.

    Example:

    >>> share_lost([1.0, 0.5, np.inf], 2.0).round(3).tolist()
    [0.333, 0.0, 1.0]
    """
    initial = _some_numbers(initial_loss)[..., None]
    capped = np.minimum(_some_numbers(losses), initial)
    lowest = capped.min(axis=-1, keepdims=True)
    possible = initial - lowest
    learned = possible > 0
    return np.where(learned, (capped - lowest) / np.where(learned, possible, 1), 1.0)


def decades_within(
    learning_rates: ArrayLike, values: ArrayLike, percent: float, direction: str
) -> np.ndarray:
    """Returns how many decades of learning rate come within x % of the best.

    Between two neighbours of the grid the metric is taken as linear in the logarithm of
    the rate; towards an infinite one nothing is gained.

    Args:
        learning_rates: A rising grid.
        values: The metric for each of them, along the last axis; plus or minus
            infinity, whichever is worst, where training diverged.
        percent: The x, in per cent of the size of the best value.
        direction: `"max"` if more of the metric is better, `"min"` if less is.

    Returns:
        Decades, between 0 and the width of the grid; 0 where all diverged.

    Raises:
        StudyError: If the grid does not rise.

    Example:

    >>> rates = [0.001, 0.01, 0.1, 1.0]
    >>> float(decades_within(rates, [1.04, 1.0, 1.1, np.inf], 5, "min"))
    1.5
    """
    rates = _some_numbers(learning_rates)
    if not (rates > 0).all() or not (np.diff(rates) > 0).all():
        raise StudyError(f"The grid must be positive and rise: {learning_rates}.")
    widths = np.diff(np.log10(rates))
    costs = -upward(_some_numbers(values), direction)
    lowest = costs.min(axis=-1, keepdims=True)
    threshold = lowest + percent / 100 * np.abs(lowest)
    low = np.minimum(costs[..., :-1], costs[..., 1:])
    high = np.maximum(costs[..., :-1], costs[..., 1:])
    inside = high <= threshold
    with np.errstate(invalid="ignore"):
        share = np.where(
            inside, 1.0, (threshold - low) / np.where(high > low, high - low, 1)
        )
    share = np.where(np.isfinite(low), np.clip(share, 0, 1), 0.0)
    return np.sum(widths * share, axis=-1)


def growth(sizes: ArrayLike, costs: ArrayLike) -> float:
    """Returns the exponent with which a cost grows with a size, by Theil and Sen.

    Args:
        sizes: At least two different sizes.
        costs: The positive cost at each of them; infinite if there was no end.

    Returns:
        The median slope of log(cost) against log(size): 0 if the cost is the same for
        all sizes, 1 if it is proportional; infinite if a cost is.

    Raises:
        StudyError: If there are fewer than two sizes, or one of them or a cost is not
            positive.

    References:
        Sen 1968, "Estimates of the regression coefficient based on Kendall's tau".

    Example:

    >>> round(growth([10, 100, 1000], [2, 20, 200]), 6)
    1.0
    """
    sizes, costs = _paired(sizes, costs)
    if len(set(sizes)) < 2 or (sizes <= 0).any() or (costs <= 0).any():
        raise StudyError(
            "Growth needs positive costs at two or more positive sizes, not "
            f"{costs} at {sizes}."
        )
    if np.isinf(costs).any():
        return np.inf
    return float(stats.theilslopes(np.log(costs), np.log(sizes)).slope)


def performance_ratios(costs: ArrayLike) -> np.ndarray:
    """Returns each cost divided by the lowest of its row.

    Args:
        costs: Workloads × contenders, positive; infinite for a miss.

    Returns:
        The ratios; infinite for misses, also where nobody reached the target.

    Raises:
        StudyError: If a cost is not positive.

    Example:

    >>> performance_ratios([[10, 20], [np.inf, 5]]).tolist()
    [[1.0, 2.0], [inf, 1.0]]
    """
    costs = _some_numbers(costs)
    if (costs <= 0).any():
        raise StudyError("Costs must be positive, infinite for a miss.")
    lowest = costs.min(axis=1, keepdims=True)
    return np.where(
        np.isinf(costs), np.inf, costs / np.where(np.isinf(lowest), 1, lowest)
    )


def performance_profile(costs: ArrayLike, factors: ArrayLike) -> np.ndarray:
    """Returns on what share of the workloads each contender is within a factor.

    Args:
        costs: As for `performance_ratios`.
        factors: The factors of the lowest cost.

    Returns:
        Factors × contenders.

    References:
        Dolan and Moré 2002, "Benchmarking optimization software with performance
        profiles", arXiv:cs/0102001.

    Example:

    >>> performance_profile([[10, 20], [np.inf, 5]], [1, 2]).tolist()
    [[0.5, 0.5], [0.5, 1.0]]
    """
    ratios = performance_ratios(costs)
    return np.mean(ratios <= _some_numbers(factors)[:, None, None], axis=1)


def profile_integral(costs: ArrayLike, largest: float = 4.0) -> np.ndarray:
    """Returns the area under each contender's performance profile, between 0 and 1.

    Args:
        costs: As for `performance_ratios`.
        largest: The largest factor; the area is that from 1 to it, divided by
            its width.

    References:
        Dahl et al. 2023, "Benchmarking neural network training algorithms",
        arXiv:2306.07179.

    Example:

    >>> profile_integral([[10, 20], [10, 40]]).round(3).tolist()
    [1.0, 0.333]
    """
    left = np.maximum(largest - performance_ratios(costs), 0.0)
    return np.mean(left, axis=0) / (largest - 1)


def iqm(values: ArrayLike) -> float:
    """Returns the interquartile mean: that of the middle half of all values.

    Args:
        values: Scores in one unit, of any shape. A quarter of them, rounded down, is
            left out at either end, so that fewer infinite ones do no harm.

    References:
        Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical
        precipice", arXiv:2108.13264.

    Example:

    >>> iqm([0, 1, 2, 3, 4, 5, 6, np.inf])
    3.5
    """
    return float(stats.trim_mean(_some_numbers(values), 0.25, axis=None))


def iqm_interval(
    strata: Sequence[ArrayLike],
    seed: Seed,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Returns the interquartile mean with the interval of a stratified bootstrap.

    Args:
        strata: For each workload the scores of its runs, in one unit. Runs are
            resampled within their workload.
        seed: Decides the resamples.
        confidence: Probability that the interval promises.
        resamples: How many there are.

    References:
        Agarwal et al. 2021, arXiv:2108.13264.

    Example:

    >>> iqm_interval([[0.5, 0.5], [0.7, 0.7]], seed=0)
    Estimate(value=0.6, low=0.6, high=0.6)
    """
    rng = np.random.default_rng(seed)
    strata = [_some_numbers(values) for values in strata]
    draws = [rng.choice(values, size=(resamples, len(values))) for values in strata]
    means = stats.trim_mean(np.concatenate(draws, axis=1), 0.25, axis=1)
    return _percentile_interval(iqm(np.concatenate(strata)), means, confidence)


def average_ranks(costs: ArrayLike) -> np.ndarray:
    """Returns each contender's rank, averaged over workloads; 1 is the best.

    Args:
        costs: Workloads × contenders, less is better; equals share their ranks.

    Example:

    >>> average_ranks([[1, 2, 3], [5, 5, np.inf]]).tolist()
    [1.25, 1.75, 3.0]
    """
    return np.mean(stats.rankdata(_some_numbers(costs), axis=1), axis=0)


def critical_difference(contenders: int, workloads: int, alpha: float = 0.05) -> float:
    """Returns by how much average ranks must differ, by Nemenyi's test.

    It is for a picture; verdicts rest on pairs.

    Args:
        contenders: How many are ranked, at least 2.
        workloads: How many ranks are averaged.
        alpha: Level of the test.

    References:
        Demšar 2006, "Statistical comparisons of classifiers over multiple data sets".

    Example:

    >>> round(critical_difference(contenders=4, workloads=14), 2)
    1.25
    """
    quantile = stats.studentized_range.ppf(1 - alpha, contenders, np.inf) / np.sqrt(2)
    return float(quantile * np.sqrt(contenders * (contenders + 1) / (6 * workloads)))
