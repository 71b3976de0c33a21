"""The rows of a dataset on JAX's device, and the order in which runs take them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from keras_adaptive.datasets.batches import (
    EVALUATION_BATCH,
    as_fed,
    each_input,
    epoch_order,
)

if TYPE_CHECKING:
    from keras_adaptive.datasets.dataset import Dataset


Rows = tuple[Any, Any]
"""Features, an array or named arrays, and labels."""


@dataclass(frozen=True)
class Part:
    """Some rows, cut into batches for an evaluation.

    Args:
        batches: Row numbers of all batches but the last, shape (batches, batch size).
        last: Row numbers of the last batch.
    """

    batches: np.ndarray
    last: np.ndarray


class Resident:
    """All rows of a dataset, one part behind the other, on the device.

    Args:
        data: The dataset, whose features are dense.

    Attributes:
        all: Features and labels of all rows.
        train_rows: The number of training rows.
    """

    def __init__(self, data: Dataset) -> None:
        splits = [data.train, data.validation, data.test]
        x = _joined([each_input(as_fed, split.x) for split in splits])
        y = np.concatenate([as_fed(split.y) for split in splits])
        self.all: Rows = jax.device_put((x, y))
        counts = [len(split.y) for split in splits]
        starts = np.concatenate([[0], np.cumsum(counts)])
        self._rows = {
            name: np.arange(start, start + count, dtype=np.int32)
            for name, start, count in zip(
                ("train", "validation", "test"), starts, counts, strict=False
            )
        }
        self.train_rows = len(data.train.y)

    def rows(self, part: str, mask: np.ndarray | None = None) -> Part:
        """Returns the rows of a part as batches.

        Args:
            part: `"train"`, `"validation"` or `"test"`.
            mask: Selects some of its rows.
        """
        rows = self._rows[part] if mask is None else self._rows[part][mask]
        full = EVALUATION_BATCH * ((len(rows) - 1) // EVALUATION_BATCH)
        return Part(rows[:full].reshape(-1, EVALUATION_BATCH), rows[full:])

    def few(self) -> tuple[Any, Any]:
        """Returns two rows, to build models with."""
        return taken(self.all, np.array([0, self.train_rows - 1]))


def taken(data: Rows, rows: Any) -> Rows:
    """Returns some rows of all, by number."""
    x, y = data
    return each_input(lambda part: part[rows], x), y[rows]


def _joined(parts: Sequence[Any]) -> Any:
    first, *_ = parts
    if isinstance(first, dict):
        return {name: np.concatenate([part[name] for part in parts]) for name in first}
    return np.concatenate(parts)


class BatchOrder:
    """The batches of one round, for several seeds, as `training_batches` cuts them.

    Args:
        rows: The number of training rows.
        batch_size: Rows of a batch; the last batch of an epoch may be smaller.
    """

    def __init__(self, rows: int, batch_size: int) -> None:
        self._rows, self._size = rows, min(batch_size, rows)
        self._per_epoch = math.ceil(rows / self._size)
        self.rest = rows % self._size

    def steps(self, seeds: Sequence[int], first: int, count: int) -> np.ndarray:
        """Returns the row numbers of some steps, shape (steps, seeds, batch size).

        A batch that is smaller is filled up with zeros.

        Args:
            seeds: The seeds.
            first: The number of steps before.
            count: The number of steps.
        """
        steps = np.arange(first, first + count)
        epochs, batches = np.divmod(steps, self._per_epoch)
        out = np.empty((count, len(seeds), self._size), np.int32)
        for epoch in range(epochs[0], epochs[-1] + 1):
            mine = epochs == epoch
            for place, seed in enumerate(seeds):
                filled = np.zeros((self._per_epoch, self._size), np.int32)
                filled.flat[: self._rows] = epoch_order(self._rows, seed, epoch)
                out[mine, place] = filled[batches[mine]]
        return out

    def are_smaller(self, first: int, count: int) -> np.ndarray:
        """Says which of some steps take the smaller batch at the end of an epoch."""
        steps = np.arange(first, first + count)
        last = steps % self._per_epoch == self._per_epoch - 1
        return last & bool(self.rest)
