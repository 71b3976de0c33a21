"""Targets: the value that the reference sets, and where curves reach it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from keras_adaptive.errors import InputError
from keras_adaptive.study.analysis.stats.medians import median
from keras_adaptive.study.analysis.stats.values import upward


def best(values: ArrayLike, direction: str) -> np.ndarray:
    """Returns the best of each curve along the last axis; NaN is never the best.

    Args:
        values: Values of a metric.
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

    Take the best values within three quarters of the budget, as in AlgoPerf. Every run
    then has a third more time than the runs that set the target. With the best values
    of the whole budget, half of the reference's runs would miss by construction, and
    the runs of a slower contender with them: 10 pairs could never show that it is
    slower.

    Args:
        bests: The best validation metric of each seed of the tuned reference.

    Raises:
        InputError: If the median is not finite.

    References:
        Dahl et al. 2023, "Benchmarking neural network training algorithms",
        arXiv:2306.07179.

    Example:
        >>> target([0.91, 0.93, 0.96])
        0.93
    """
    value = float(median(bests))
    if not np.isfinite(value):
        raise InputError(
            "The reference sets no target: half of its runs or more have no finite "
            "metric. Tune it on a wider grid, or choose another reference."
        )
    return value


def to_target(
    places: ArrayLike, values: ArrayLike, target: float, direction: str
) -> np.ndarray:
    """Returns where each curve along the last axis first reaches a target.

    Args:
        places: Rising steps or seconds, of a shape that broadcasts to the shape of the
            values.
        values: The metric at these places; NaN never reaches the target.
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
