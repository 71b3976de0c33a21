"""Grids of half decades, and how they widen: one rule for every optimizer."""

import math
from collections.abc import Mapping


def half_decade(exponent: int) -> float:
    """Returns a half decade, to six digits.

    Args:
        exponent: In half decades: -6 for 0.001.

    Example:

    >>> [half_decade(exponent) for exponent in (-2, -1, 0, 1)]
    [0.1, 0.316228, 1.0, 3.16228]
    """
    return float(f"{10 ** (exponent / 2):.6g}")


def half_decades_around(rate: float, count: int) -> list[float]:
    """Returns half decades around the one that is nearest to a learning rate.

    Args:
        rate: The learning rate in the middle.
        count: How many there are; of an even number one more lies above.

    Example:

    >>> half_decades_around(0.003, 4)
    [0.001, 0.00316228, 0.01, 0.0316228]
    """
    first = round(2 * math.log10(rate)) - (count - 1) // 2
    return [half_decade(exponent) for exponent in range(first, first + count)]


def beyond_the_edge(scores: Mapping[float, float]) -> float | None:
    """Returns the learning rate by which a grid is to be widened.

    Args:
        scores: What each learning rate that was tried led to; more is better.

    Returns:
        The half decade next to the best rate (the lowest of equals) if that is the
        lowest or the highest, and `None` if it is inside or nothing worked.

    Example:

    >>> beyond_the_edge({0.1: 0.7, 1.0: 0.8, 0.01: 0.6})
    3.16228
    """
    best = max(sorted(scores), key=scores.get)
    if scores[best] == -math.inf:
        return None
    if best == min(scores):
        return float(f"{best / 10**0.5:.6g}")
    if best == max(scores):
        return float(f"{best * 10**0.5:.6g}")
    return None
