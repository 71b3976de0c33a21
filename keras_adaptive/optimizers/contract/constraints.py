"""What values a hyper-parameter may take, checked whenever one is set."""

from __future__ import annotations

import dataclasses
import math
import numbers


@dataclasses.dataclass(frozen=True)
class Interval:
    """An interval of the real line that a hyper-parameter must lie in.

    Args:
        low: Smallest value.
        high: Largest value; may be infinite, but no value may.
        open_low: Whether `low` itself is excluded.
        open_high: Whether `high` itself is excluded.
        whole: Whether only integers are allowed.
        optional: Whether `None` is allowed.
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
        """Raises a `ValueError` that names the owner if `value` is outside."""
        if value not in self:
            raise ValueError(
                f"{owner}: `{name}` must be {self}. Received: {name}={value!r}"
            )


NON_NEGATIVE = Interval(0.0)
POSITIVE = Interval(0.0, open_low=True)
DECAY_RATE = Interval(0.0, 1.0, open_high=True)
