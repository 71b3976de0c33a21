"""Constraints on the values of hyper-parameters, checked whenever one is set."""

from __future__ import annotations

import dataclasses
import math
import numbers


@dataclasses.dataclass(frozen=True)
class Interval:
    """An interval of the real line that a hyper-parameter must lie in.

    Args:
        low: The smallest value.
        high: The largest value. It may be infinite; the values must be finite.
        open_low: Whether to exclude `low` itself.
        open_high: Whether to exclude `high` itself.
        whole: Whether to allow integers only.
        optional: Whether to allow `None`.

    Example:

    >>> 0.5 in Interval(0.0, 1.0, open_high=True)
    True
    >>> Interval(1, whole=True, optional=True).notation
    'an integer of at least 1, or `None`'
    """

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    whole: bool = False
    optional: bool = False

    def __str__(self) -> str:
        kind = "an integer" if self.whole else "a finite number"
        left = f"{kind} {'>' if self.open_low else '>='} {self.low:g}"
        right = ""
        if not math.isinf(self.high):
            right = f" and {'<' if self.open_high else '<='} {self.high:g}"
        return left + right + (", or None" if self.optional else "")

    @property
    def notation(self) -> str:
        """The constraint in words for documentation, such as "in `[0, 1)`"."""
        if not math.isinf(self.high):
            left, right = "(["[not self.open_low], ")]"[not self.open_high]
            words = f"in `{left}{self.low:g}, {self.high:g}{right}`"
        else:
            words = f"{'above' if self.open_low else 'at least'} {self.low:g}"
        if self.whole:
            words = f"an integer {'' if words.startswith('in') else 'of '}{words}"
        return words + (", or `None`" if self.optional else "")

    def __contains__(self, value: object) -> bool:
        if value is None:
            return self.optional
        kind = numbers.Integral if self.whole else numbers.Real
        if isinstance(value, bool) or not isinstance(value, kind):
            return False
        if not math.isfinite(value):
            return False
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def check(self, owner: str, name: str, value: object) -> None:
        """Raises an error if a value is outside the interval.

        Args:
            owner: The class whose hyper-parameter it is.
            name: The name of the hyper-parameter.
            value: The value.

        Raises:
            ValueError: The value is outside.
        """
        if value not in self:
            raise ValueError(
                f"{owner}: `{name}` must be {self}. Received: {name}={value!r}"
            )


NON_NEGATIVE = Interval(0.0)
POSITIVE = Interval(0.0, open_low=True)
DECAY_RATE = Interval(0.0, 1.0, open_high=True)
NON_NEGATIVE_OR_NONE = Interval(0.0, optional=True)
POSITIVE_OR_NONE = Interval(0.0, open_low=True, optional=True)
