"""Comparisons over workloads: performance profiles, ranks and growth of costs."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from keras_adaptive.errors import InputError, needs_extra
from keras_adaptive.study.analysis.stats.values import nonempty, paired, tied

with needs_extra("study"):
    from scipy import stats


def performance_ratios(costs: ArrayLike) -> np.ndarray:
    """Returns each cost divided by the lowest of its row, 1 for those `tied` with it.

    Args:
        costs: Workloads × contenders, positive; infinite for a miss.

    Returns:
        The ratios; infinite for misses, even if all contenders missed.

    Raises:
        InputError: If a cost is not positive.

    Example:
        >>> performance_ratios([[10, 20], [np.inf, 5]]).tolist()
        [[1.0, 2.0], [inf, 1.0]]
    """
    floats = nonempty(costs)
    if (floats <= 0).any():
        raise InputError("Costs must be positive, infinite for a miss.")
    lowest = floats.min(axis=1, keepdims=True)
    ratios = floats / np.where(np.isinf(lowest), 1, lowest)
    return np.select([np.isinf(floats), tied(floats, lowest)], [np.inf, 1.0], ratios)


def performance_profile(costs: ArrayLike, factors: ArrayLike) -> np.ndarray:
    """Returns the share of workloads on which each contender is within a factor.

    Args:
        costs: As for `performance_ratios`.
        factors: Multiples of the lowest cost.

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
    return np.mean(ratios <= nonempty(factors)[:, None, None], axis=1)


def profile_integral(costs: ArrayLike, largest: float = 4.0) -> np.ndarray:
    """Returns the area under each contender's performance profile, between 0 and 1.

    Args:
        costs: As for `performance_ratios`.
        largest: The largest factor. The area from 1 to it is divided by its width.

    References:
        Dahl et al. 2023, "Benchmarking neural network training algorithms",
        arXiv:2306.07179.

    Example:
        >>> profile_integral([[10, 20], [10, 40]]).round(3).tolist()
        [1.0, 0.333]
    """
    left = np.maximum(largest - performance_ratios(costs), 0.0)
    return np.mean(left, axis=0) / (largest - 1)


def average_ranks(costs: ArrayLike) -> np.ndarray:
    """Returns each contender's rank, averaged over workloads; 1 is the best.

    Args:
        costs: Workloads × contenders; less is better, and equals share their ranks.

    Example:
        >>> average_ranks([[1, 2, 3], [0.3, 0.1 + 0.2, np.inf]]).tolist()
        [1.25, 1.75, 3.0]
    """
    equal = np.array([_without_dust(row) for row in nonempty(costs)])
    return np.mean(stats.rankdata(equal, axis=1), axis=0)


def _without_dust(row: np.ndarray) -> np.ndarray:
    """Returns the values with ties made equal, see `tied`."""
    order = np.argsort(row, kind="stable")
    ordered = row[order]
    begins = np.concatenate([[True], ~tied(ordered[1:], ordered[:-1])])
    result = np.empty_like(row)
    result[order] = ordered[begins][np.cumsum(begins) - 1]
    return result


def critical_difference(contenders: int, workloads: int, alpha: float = 0.05) -> float:
    """Returns the critical difference between average ranks by Nemenyi's test.

    Use it for figures only, since verdicts rest on pairs.

    Args:
        contenders: The number of contenders, at least 2.
        workloads: The number of workloads.
        alpha: Level of the test.

    References:
        Demšar 2006, "Statistical comparisons of classifiers over multiple data sets".

    Example:
        >>> round(critical_difference(contenders=4, workloads=14), 2)
        1.25
    """
    quantile = stats.studentized_range.ppf(1 - alpha, contenders, np.inf) / np.sqrt(2)
    return float(quantile * np.sqrt(contenders * (contenders + 1) / (6 * workloads)))


def growth(sizes: ArrayLike, costs: ArrayLike) -> float:
    """Returns the exponent with which a cost grows with a size, by Theil and Sen.

    Args:
        sizes: At least two different sizes.
        costs: The positive cost at each size; infinite if the run had no end.

    Returns:
        The median slope of log(cost) against log(size): 0 if the cost is the same for
        all sizes, 1 if it is proportional; infinite if one of the costs is.

    Raises:
        InputError: If there are fewer than two sizes, or if a size or a cost is not
            positive.

    References:
        Sen 1968, "Estimates of the regression coefficient based on Kendall's tau".

    Example:
        >>> round(growth([10, 100, 1000], [2, 20, 200]), 6)
        1.0
    """
    x, y = paired(sizes, costs)
    if len(set(x)) < 2 or (x <= 0).any() or (y <= 0).any():
        raise InputError(
            "Growth needs positive costs at two or more positive sizes, not "
            f"{y} at {x}."
        )
    if np.isinf(y).any():
        return np.inf
    return float(stats.theilslopes(np.log(y), np.log(x)).slope)
