"""A direction of drift with a sum for its denominator."""

from __future__ import annotations

from typing import Any, NamedTuple


class Quotient(NamedTuple):
    """The direction numerator / (root + floor), as that of Adam, m / (√v + ε).

    While the gradient is zero, the floor grows relative to the root: √v decays, ε
    stands still. `Algorithm.floor_growth` says how.

    Attributes:
        numerator: Tensor of the parameter's shape.
        root: Tensor that broadcasts against it, such as √v.
        floor: A number, or a tensor that broadcasts against it, such as ε.
    """

    numerator: Any
    root: Any
    floor: Any

    def at(self, growth: Any, spread: Any = None) -> Any:
        """Returns the mean direction of steps in which the floor has grown.

        Args:
            growth: The harmonic mean of the growth.
            spread: Its arithmetic mean less the harmonic one; `None` for no difference.
        """
        denominator = self.root + growth * self.floor
        if spread is not None:
            share_of_root = self.root / denominator
            denominator = denominator + spread * self.floor * share_of_root
        # The denominator may have one entry a row, and a division is slow.
        return 1 / denominator * self.numerator
