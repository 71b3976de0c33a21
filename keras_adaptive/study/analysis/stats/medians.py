"""Medians and interquartile means with bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from keras_adaptive.errors import needs_extra
from keras_adaptive.study.analysis.stats.values import nonempty

with needs_extra("study"):
    from scipy import stats

Seed: TypeAlias = int | np.random.Generator
RESAMPLES = 2_000


@dataclass(frozen=True)
class Estimate:
    """An estimate with its interval."""

    value: float
    low: float
    high: float


def median(values: ArrayLike) -> np.ndarray:
    """Returns the medians along the last axis, of values that may be infinite.

    Args:
        values: Any numbers except NaN.

    Returns:
        NumPy's medians, except that the middle between minus and plus infinity is 0:
        as many values are infinitely better as infinitely worse.

    Raises:
        InputError: If there are no values, or NaN among them.

    Example:
        >>> float(median([1, 2, np.inf])), float(median([-np.inf, np.inf]))
        (2.0, 0.0)
    """
    ordered = np.sort(nonempty(values), axis=-1)
    count = ordered.shape[-1]
    with np.errstate(invalid="ignore"):
        middle = ordered[..., (count - 1) // 2] / 2 + ordered[..., count // 2] / 2
    return np.where(np.isnan(middle), 0.0, middle)[()]


def _percentile_interval(
    value: float | np.ndarray, draws: np.ndarray, confidence: float
) -> Estimate:
    """Returns a percentile interval whose ends are among the resampled values."""
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

    The ends of the interval are medians of resamples, never a mixture of two. An end
    may be infinite.

    Args:
        values: One value for each run, infinite for a miss.
        seed: Decides the resamples.
        confidence: Probability that the interval covers the median.
        resamples: The number of resamples.

    Raises:
        InputError: If there are no values, or NaN among them.

    References:
        Efron 1979, "Bootstrap methods: another look at the jackknife".

    Example:
        >>> median_interval([110, 120, 130, 140, np.inf], seed=0)
        Estimate(value=130.0, low=110.0, high=inf)
    """
    floats = nonempty(values)
    rng = np.random.default_rng(seed)
    draws = rng.choice(floats, size=(resamples, len(floats)))
    return _percentile_interval(median(floats), median(draws), confidence)


def iqm(values: ArrayLike) -> float:
    """Returns the interquartile mean: the mean of the middle half of all values.

    Args:
        values: Scores in one unit, of any shape. A quarter of them, rounded down, is
            left out at either end, so a few infinite ones do no harm.

    References:
        Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical
        precipice", arXiv:2108.13264.

    Example:
        >>> iqm([0, 1, 2, 3, 4, 5, 6, np.inf])
        3.5
    """
    return float(stats.trim_mean(nonempty(values), 0.25, axis=None))


def iqm_interval(
    strata: Sequence[ArrayLike],
    seed: Seed,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Returns the interquartile mean with the interval of a stratified bootstrap.

    Args:
        strata: The scores of the runs of each workload, in one unit. Runs are
            resampled within their workload.
        seed: Decides the resamples.
        confidence: Probability that the interval covers the mean.
        resamples: The number of resamples.

    References:
        Agarwal et al. 2021, arXiv:2108.13264.

    Example:
        >>> iqm_interval([[0.5, 0.5], [0.7, 0.7]], seed=0)
        Estimate(value=0.6, low=0.6, high=0.6)
    """
    rng = np.random.default_rng(seed)
    scores = [nonempty(values) for values in strata]
    draws = [rng.choice(values, size=(resamples, len(values))) for values in scores]
    means = stats.trim_mean(np.concatenate(draws, axis=1), 0.25, axis=1)
    return _percentile_interval(iqm(np.concatenate(scores)), means, confidence)
