"""Labelled sparse data in three parts."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from keras_adaptive.study.errors import StudyError, needs_extra

with needs_extra("study"):
    from scipy import sparse


class Split(NamedTuple):
    """One part of a dataset: a CSR matrix of features and the classes of its rows."""

    x: sparse.csr_matrix
    y: np.ndarray


@dataclass(frozen=True)
class SparseDataset:
    """A classification dataset with sparse features.

    Args:
        name: Name of the workload, as it appears in tables and in MLflow.
        source: Where the data comes from, in words.
        classes: Name of each class; class `k` of the labels is `classes[k]`.
        train: The rows to train on.
        validation: The rows to choose by.
        test: The rows to judge by.

    Raises:
        StudyError: If a part has no rows.
    """

    name: str
    source: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split

    def __post_init__(self) -> None:
        for part, split in self.parts.items():
            if len(split.y) == 0:
                raise StudyError(
                    f"The {part} part of {self.source} has no rows: there are too few "
                    "rows to split. Expected at least ten rows for each class."
                )

    @property
    def parts(self) -> dict[str, Split]:
        return {
            "train": self.train,
            "validation": self.validation,
            "test": self.test,
        }

    @property
    def features(self) -> int:
        return self.train.x.shape[1]

    @cached_property
    def digest(self) -> str:
        """A fingerprint of all rows and labels."""
        digest = hashlib.sha256(repr((self.features, self.classes)).encode())
        for x, y in self.parts.values():
            for array in (x.indptr, x.indices, x.data, y):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def describe(self) -> str:
        """Returns one line with the sizes of the data."""
        rows = " / ".join(f"{len(split.y):,}" for split in self.parts.values())
        density = self.train.x.nnz / max(len(self.train.y), 1)
        return (
            f"{self.name}: {rows} rows (train / validation / test), "
            f"{self.features:,} features, {density:.0f} of them non-zero in a row, "
            f"{len(self.classes)} classes"
        )


def encode_labels(labels: Sequence, source: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Maps labels to the classes 0 to K-1, in the order of the sorted labels.

    Args:
        labels: One label a row.
        source: Where the labels come from, for the error message.

    Returns:
        The names of the classes and the class of each row.

    Raises:
        StudyError: If there are fewer than two classes.
    """
    classes, codes = np.unique(np.asarray(labels), return_inverse=True)
    if len(classes) < 2:
        found = f"only the class {str(classes[0])!r}" if len(classes) else "no rows"
        raise StudyError(
            f"{source} holds {found}. Classification needs at least two classes: check "
            "that the right column or file is used as the label."
        )
    return tuple(str(label) for label in classes), codes.astype(np.int64)


def stratified_split(
    labels: np.ndarray, fractions: Sequence[float], seed: int
) -> list[np.ndarray]:
    """Splits rows at random so that each class is spread over the parts.

    Args:
        labels: The class of each row.
        fractions: Share of the rows in each held-out part; together less than one.
        seed: Seed of the split.

    Returns:
        The sorted row numbers of each held-out part, and last those of the rest, in
        which every class is present.
    """
    rng = np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = [[] for _ in range(len(fractions) + 1)]
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        cuts = np.floor(np.cumsum(fractions) * len(rows)).astype(int)
        for part, chunk in zip(parts, np.split(rows, cuts), strict=True):
            part.append(chunk)
    return [np.sort(np.concatenate(part)) for part in parts]
