"""Sensitivity to a hyper-parameter, from losses and metrics over a grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from keras_adaptive.errors import InputError
from keras_adaptive.study.analysis.stats.values import nonempty, upward


def sensitivity(losses: ArrayLike, initial_loss: ArrayLike) -> np.ndarray:
    """Returns the mean loss in excess of the best, over a grid of learning rates.

    It is the mean of min(loss, initial loss) - best loss. A rate that diverges costs as
    much as no training. An optimizer that learns nothing at any rate has sensitivity 0,
    so compare its best loss as well.

    Args:
        losses: The final loss for each learning rate of a grid, along the last axis;
            infinite where training diverged.
        initial_loss: The loss before training for each grid.

    References:
        Wortsman et al. 2023, "Small-scale proxies for large-scale Transformer training
        instabilities", arXiv:2309.14322.

    Example:
        >>> float(sensitivity([1.0, 0.5, np.inf], 2.0))
        0.6666666666666666
    """
    capped = np.minimum(nonempty(losses), nonempty(initial_loss)[..., None])
    return np.mean(capped - capped.min(axis=-1, keepdims=True), axis=-1)


def share_lost(losses: ArrayLike, initial_loss: ArrayLike) -> np.ndarray:
    """Returns the share of the possible improvement that each learning rate misses.

    Args:
        losses: As for `sensitivity`.
        initial_loss: As for `sensitivity`.

    Returns:
        (min(loss, initial loss) - best loss) / (initial loss - best loss) for each
        rate: 0 for the best rate, 1 for one that is no better than no training. If no
        rate improves on the initial loss, it is 1 for all.

    Example:
        >>> share_lost([1.0, 0.5, np.inf], 2.0).round(3).tolist()
        [0.333, 0.0, 1.0]
    """
    initial = nonempty(initial_loss)[..., None]
    capped = np.minimum(nonempty(losses), initial)
    lowest = capped.min(axis=-1, keepdims=True)
    possible = initial - lowest
    learned = possible > 0
    return np.where(learned, (capped - lowest) / np.where(learned, possible, 1), 1.0)


def decades_within(
    learning_rates: ArrayLike, values: ArrayLike, percent: float, direction: str
) -> np.ndarray:
    """Returns the decades of learning rates whose metric is within x % of the best.

    The metric is interpolated linearly in the logarithm of the rate. Next to an
    infinite value the interval counts nothing.

    Args:
        learning_rates: A rising grid.
        values: The metric for each rate, along the last axis; the worst infinity where
            training diverged.
        percent: The x, in percent of the absolute best value.
        direction: `"max"` if more of the metric is better, `"min"` if less is.

    Returns:
        Decades between 0 and the width of the grid; 0 if all runs diverged.

    Raises:
        InputError: If the grid does not rise.

    Example:
        >>> rates = [0.001, 0.01, 0.1, 1.0]
        >>> float(decades_within(rates, [1.04, 1.0, 1.1, np.inf], 5, "min"))
        1.5
    """
    rates = nonempty(learning_rates)
    if not (rates > 0).all() or not (np.diff(rates) > 0).all():
        raise InputError(f"The grid must be positive and rise: {rates}.")
    widths = np.diff(np.log10(rates))
    costs = -upward(nonempty(values), direction)
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
