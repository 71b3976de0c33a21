"""Learning rates of half decades, by one rule for every optimizer."""

import math
from collections.abc import Callable, Sequence


def half_decades(lowest: int, highest: int) -> list[float]:
    """Returns learning rates of half decades.

    Args:
        lowest: The first exponent, in half decades: -6 for 0.001.
        highest: The last exponent, in half decades.

    Example:

    >>> [f"{rate:.2g}" for rate in half_decades(-4, 1)]
    ['0.01', '0.032', '0.1', '0.32', '1', '3.2']
    """
    return [10.0 ** (exponent / 2) for exponent in range(lowest, highest + 1)]


def tune(
    losses: Callable[[Sequence[float]], Sequence[float]],
    lowest: int,
    highest: int,
    widen_by: int = 1,
    widenings: int = 4,
) -> tuple[float, dict[float, float]]:
    """Finds the best learning rate of a grid that widens while the best is at its edge.

    Args:
        losses: What each of several learning rates leads to; less is better, and
            NaN is the worst.
        lowest: The first exponent of the grid, see `half_decades`.
        highest: The last exponent of the grid.
        widen_by: How many half decades the grid grows by at once.
        widenings: How often it grows at most.

    Returns:
        The best rate (the lowest of equals) and the loss of every rate tried, in
        the order of the rates.

    Example:

    >>> best, tried = tune(lambda rates: [abs(r - 1) for r in rates], -6, -2)
    >>> best, len(tried)
    (1.0, 8)
    """
    tried: dict[float, float] = {}
    rates = half_decades(lowest, highest)
    for left in reversed(range(widenings + 1)):
        for rate, loss in zip(rates, losses(rates), strict=True):
            tried[rate] = math.inf if math.isnan(loss) else float(loss)
        tried = dict(sorted(tried.items()))
        best = min(tried, key=tried.get)
        if best not in (min(tried), max(tried)) or not left:
            break
        if best == min(tried):
            rates = half_decades(lowest - widen_by, lowest - 1)
            lowest -= widen_by
        else:
            rates = half_decades(highest + 1, highest + widen_by)
            highest += widen_by
    return best, tried
