"""Grids of half decades, and how they widen: the same rule for every optimizer."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def half_decade(exponent: int) -> float:
    """Returns a half decade, rounded to six digits.

    Args:
        exponent: In half decades: -6 for 0.001.

    Example:
        >>> [half_decade(exponent) for exponent in (-2, -1, 0, 1)]
        [0.1, 0.316228, 1.0, 3.16228]
    """
    return float(f"{10 ** (exponent / 2):.6g}")


def half_decades_around(rate: float, count: int) -> list[float]:
    """Returns half decades around the one nearest to a learning rate.

    Args:
        rate: The learning rate in the middle.
        count: How many half decades; an even count puts one more above the middle.

    Example:
        >>> half_decades_around(0.003, 4)
        [0.001, 0.00316228, 0.01, 0.0316228]
    """
    first = round(2 * math.log10(rate)) - (count - 1) // 2
    return [half_decade(exponent) for exponent in range(first, first + count)]


def edge(scores: Mapping[float, Any]) -> int:
    """Returns the edge of the grid at which the best learning rate lies, if any.

    Args:
        scores: The score of each learning rate that was tried; more is better.

    Returns:
        -1 if the best rate (the lowest of equals) is the lowest of the grid, 1 if it
        is the highest, 0 if it is inside.

    Example:
        >>> edge({0.1: 0.7, 1.0: 0.8, 0.01: 0.6}), edge({0.1: 0.9, 1.0: 0.8, 0.01: 0.6})
        (1, 0)
    """
    best = max(sorted(scores), key=lambda rate: scores[rate])
    return -(best == min(scores)) or int(best == max(scores))


def beyond_the_edge(scores: Mapping[float, Any]) -> float | None:
    """Returns the learning rate that widens a grid whose best rate is at an edge.

    Args:
        scores: As for `edge`.

    Returns:
        The half decade next to the best rate; `None` if the best rate is inside.

    Example:
        >>> beyond_the_edge({0.1: 0.7, 1.0: 0.8, 0.01: 0.6})
        3.16228
    """
    side = edge(scores)
    outermost = max(scores) if side > 0 else min(scores)
    return float(f"{outermost * 10 ** (side / 2):.6g}") if side else None


def tune(
    losses: Callable[[Sequence[float]], Sequence[float]],
    lowest: int,
    highest: int,
    widen_by: int = 1,
    widenings: int = 4,
) -> tuple[float, dict[float, float]]:
    """Finds the best learning rate when all rates of a grid are tried at once.

    Args:
        losses: Maps learning rates to losses. Less is better; NaN is the worst.
        lowest: The first exponent of the grid, see `half_decade`.
        highest: The last exponent of the grid.
        widen_by: The number of half decades by which the grid grows at once.
        widenings: The largest number of times that it grows, while the best rate is
            at its edge.

    Returns:
        The best rate (the lowest of equals) and the loss of every rate that was
        tried, in the order of the rates.

    Example:
        >>> best, tried = tune(lambda rates: [abs(r - 1) for r in rates], -6, -2)
        >>> best, len(tried)
        (1.0, 8)
    """
    scores: dict[float, float] = {}
    first, last = lowest, highest
    for left in reversed(range(widenings + 1)):
        rates = [half_decade(exponent) for exponent in range(first, last + 1)]
        for rate, loss in zip(rates, losses(rates), strict=True):
            scores[rate] = -math.inf if math.isnan(loss) else -float(loss)
        side = edge(scores)
        if not side or not left:
            break
        first = lowest - widen_by if side < 0 else highest + 1
        last = first + widen_by - 1
        lowest, highest = min(lowest, first), max(highest, last)
    tried = {rate: -scores[rate] for rate in sorted(scores)}
    return min(tried, key=lambda rate: tried[rate]), tried
