"""Tests of paired values: Wilcoxon's signed rank test and Holm's correction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from keras_adaptive.errors import InputError
from keras_adaptive.study.analysis.stats.medians import Estimate, Seed, median_interval
from keras_adaptive.study.analysis.stats.values import paired, tied, without_nan


def differences(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Returns first - second, which is 0 for ties and for equal infinities.

    Example:
        >>> differences([3, np.inf, np.inf, 0.1 + 0.2], [1, 1, np.inf, 0.3]).tolist()
        [2.0, inf, 0.0, 0.0]
    """
    one, other = paired(first, second)
    with np.errstate(invalid="ignore"):
        return np.where(tied(one, other), 0.0, one - other)


def log_ratios(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Returns log(first / second), which is 0 for equal infinities and zeros.

    Raises:
        InputError: If a value is negative.

    Example:
        >>> log_ratios([1, np.inf, np.inf], [np.e, 5, np.inf]).tolist()
        [-1.0, inf, 0.0]
    """
    one, other = paired(first, second)
    if (one < 0).any() or (other < 0).any():
        raise InputError("A ratio needs numbers that are not negative.")
    with np.errstate(divide="ignore"):
        return differences(np.log(one), np.log(other))


def paired_difference(first: ArrayLike, second: ArrayLike, seed: Seed) -> Estimate:
    """Returns the median of first - second, with its paired bootstrap interval.

    Args:
        first: One value for each pair.
        second: The value it is compared to.
        seed: Decides the resamples, which are of pairs.

    Example:
        >>> paired_difference([3, 4, 5], [1, 2, 3], seed=0)
        Estimate(value=2.0, low=2.0, high=2.0)
    """
    return median_interval(differences(first, second), seed)


def paired_log_ratio(first: ArrayLike, second: ArrayLike, seed: Seed) -> Estimate:
    """Returns the median of log(first / second), with its paired bootstrap interval.

    Args:
        first: One value for each pair, not negative; infinite for a miss.
        second: The value it is compared to.
        seed: Decides the resamples, which are of pairs.

    Example:
        >>> paired_log_ratio([1, 2, 3], [1, 2, 3], seed=0).value
        0.0
    """
    return median_interval(log_ratios(first, second), seed)


@dataclass(frozen=True)
class SignedRank:
    """The result of Wilcoxon's signed rank test.

    Args:
        p_value: The two-sided p value.
        pairs: The number of pairs that differ; the others do not count.
        smallest_p: The smallest p value that this number of pairs can have.
        balance: The share of the rank sum of positive differences minus the share of
            negative ones, from -1 to 1; 0 if no pair differs.
    """

    p_value: float
    pairs: int
    smallest_p: float
    balance: float


def smallest_p(pairs: int) -> float:
    """Returns the smallest two-sided p value that Wilcoxon's test can give.

    Args:
        pairs: The number of pairs that differ.

    Example:
        >>> smallest_p(5)
        0.0625
    """
    return min(1.0, 2.0 ** (1 - pairs))


def pairs_needed(alpha: float) -> int:
    """Returns the smallest number of pairs that can have a p value of `alpha`.

    Example:
        >>> pairs_needed(0.05)
        6
    """
    return next(pairs for pairs in range(1, 1_000) if smallest_p(pairs) <= alpha)


def signed_rank(paired_differences: ArrayLike) -> SignedRank:
    """Tests whether paired differences are symmetric about 0, by Wilcoxon's test.

    Pairs without a difference are left out, as Wilcoxon did: they do not tell which of
    the two is better. Infinite differences rank highest, and equal ones share their
    rank. The p value is exact, with and without ties.

    Args:
        paired_differences: One difference for each pair.

    Returns:
        The test; its p value is 1 if no pair differs.

    Raises:
        InputError: If a difference is NaN.

    References:
        Wilcoxon 1945, "Individual comparisons by ranking methods"; the balance is Kerby
        2014, "The simple difference formula".

    Example:
        >>> signed_rank([1, 2, 3, 4, np.inf, 0])
        SignedRank(p_value=0.0625, pairs=5, smallest_p=0.0625, balance=1.0)
    """
    values = without_nan(paired_differences)
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
    """Returns the probability of each sum, if chance decides the sign of each rank."""
    chances = np.zeros(ranks.sum() + 1)
    chances[0] = 1.0
    for rank in ranks:
        chances /= 2
        chances[rank:] += chances[:-rank].copy()
    return chances


def holm(p_values: ArrayLike) -> np.ndarray:
    """Returns p values corrected by Holm's method.

    It bounds the family-wise error rate, however the tests depend on each other.

    References:
        Holm 1979, "A simple sequentially rejective multiple test procedure".

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    raw = without_nan(p_values)
    order = np.argsort(raw, kind="stable")
    scaled = raw[order] * np.arange(len(raw), 0, -1)
    corrected = np.empty_like(raw)
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return corrected
