"""A sparse gradient, summed by row."""

from __future__ import annotations

from typing import Any


class Rows:
    """A sparse gradient: unique rows and one value for each.

    Args:
        ids: int64 tensor of shape `(n,)`, without repetitions.
        values: Float tensor of shape `(n, ...)`.
        source: The values before summation, one for each id of the batch; by default
            the values.
    """

    def __init__(self, ids: Any, values: Any, source: Any | None = None) -> None:
        self.ids = ids
        self.values = values
        self.source = values if source is None else source

    def replace(self, values: Any) -> Rows:
        """Returns the same rows with other values."""
        return Rows(self.ids, values, self.source)

    def __truediv__(self, scale: Any) -> Rows:
        return self.replace(self.values / scale)
