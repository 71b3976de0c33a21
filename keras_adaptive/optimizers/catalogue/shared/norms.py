"""Steps in proportion to the norms of whole variables."""

from __future__ import annotations

from typing import Any

from keras import ops


def trust_ratio(numerator: Any, denominator: Any, trusted: Any) -> Any:
    """Returns the ratio where `trusted`, a bool tensor, is true, and one elsewhere."""
    one = ops.ones_like(denominator)
    ratio = numerator / ops.where(trusted, denominator, one)
    return ops.where(trusted, ratio, one)
