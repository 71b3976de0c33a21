"""A labelled dataset in three parts: training, validation and test."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeGuard

import numpy as np

from keras_adaptive.errors import InputError

if TYPE_CHECKING:
    from scipy import sparse

Task = Literal["classification", "regression"]
Array: TypeAlias = "np.ndarray | sparse.csr_matrix"
Features: TypeAlias = "Array | dict[str, Array]"
Labels: TypeAlias = "np.ndarray | Sequence[Any]"

NAMED = 5
MAJORITY = 0.9
"""Accuracy tells little if this share of the test rows has one class."""


class Split(NamedTuple):
    """One part of a dataset.

    Args:
        x: The features of each row: a NumPy array, a scipy CSR matrix, or a dictionary
            of these for a model with named inputs.
        y: The label of each row: a class counted from 0, or a number for a regression.
    """

    x: Features
    y: np.ndarray

    def take(self, rows: np.ndarray) -> Split:
        """Returns some of the rows.

        Args:
            rows: The numbers of the rows, or a mask.
        """
        if isinstance(self.x, dict):
            named_parts = {name: part[rows] for name, part in self.x.items()}
            return Split(named_parts, self.y[rows])
        return Split(self.x[rows], self.y[rows])


@dataclass(frozen=True)
class Dataset:
    """A dataset for a study, in memory and with a fingerprint.

    Args:
        name: The name in tables and in MLflow.
        source: The origin of the data, in words.
        train: The rows to train on.
        validation: The rows that tuning chooses by.
        test: The rows that verdicts are based on.
        task: `"classification"` or `"regression"`.
        classes: Name of each class; class `k` of the labels is `classes[k]`. The
            default is the numbers of the classes.
        notes: Remarks on how the data were read.

    Raises:
        InputError: If a part has no rows, a label or a feature is not a finite number,
            the parts do not fit together, or there is only one class.

    Example:

    >>> x, y = np.eye(4, dtype="float32"), np.array([0, 1, 0, 1])
    >>> part = Split(x, y)
    >>> Dataset("mine", "made up", part, part, part).describe()
    'mine: 4 / 4 / 4 rows (train / validation / test), 4 numbers a row, 2 classes'
    """

    name: str
    source: str
    train: Split
    validation: Split
    test: Split
    task: Task = "classification"
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.task not in ("classification", "regression"):
            raise InputError(
                f"{self.name}: the task is {self.task!r}. Expected 'classification' or "
                "'regression'."
            )
        for part, split in self.parts.items():
            check_part(f"The {part} part of {self.source}", split)
            check_alike(f"The {part} part of {self.source}", split, self.train)
        if self.task == "classification":
            self._check_classes()

    def _check_classes(self) -> None:
        for part, split in self.parts.items():
            whole = split.y.ndim == 1 and np.issubdtype(split.y.dtype, np.integer)
            if not whole or split.y.min() < 0:
                raise InputError(
                    f"The labels of the {part} part of {self.source} are not classes. "
                    "Expected one whole number of at least 0 a row; encode_labels "
                    "makes them from names. For numbers, pass task='regression'."
                )
        seen = np.unique(self.train.y)
        if len(seen) < 2:
            raise one_class_error(self.source, f"only the class {seen[0]}")
        if not self.classes:
            highest = max(int(split.y.max()) for split in self.parts.values())
            object.__setattr__(self, "classes", tuple(map(str, range(highest + 1))))
        for part, split in self.parts.items():
            if split.y.max() >= len(self.classes):
                raise InputError(
                    f"The {part} part of {self.source} has the label {split.y.max()}, "
                    f"but there are {len(self.classes)} classes, counted from 0."
                )

    @property
    def parts(self) -> dict[str, Split]:
        """The three parts by name."""
        return {
            "train": self.train,
            "validation": self.validation,
            "test": self.test,
        }

    @property
    def features(self) -> int:
        """Number of columns, if the features are one array or one matrix."""
        x: Any = self.train.x
        columns: int = x.shape[1]
        return columns

    @cached_property
    def digest(self) -> str:
        """A digest of all rows, all labels, and the names of inputs and classes."""
        digest = hashlib.sha256(repr((self.task, self.classes)).encode())
        for split in self.parts.values():
            for name, part in [*named(split.x), ("labels", split.y)]:
                digest.update(repr((name, part.shape)).encode())
                for array in arrays(part):
                    digest.update(array.dtype.str.encode())
                    digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def remarks(self) -> list[str]:
        """Returns the notes, and sentences on classes that the parts can hardly judge.

        Example:

        >>> part = Split(np.zeros((20, 1)), np.array([0] * 19 + [1]))
        >>> Dataset("mine", "made up", part, part, part).remarks()
        ["Always answering '0' has a test accuracy of 0.95."]
        """
        if self.task != "classification":
            return [*self.notes]
        found = [*self.notes]
        for part in ("validation", "test"):
            counts = np.bincount(self.parts[part].y, minlength=len(self.classes))
            absent = [repr(self.classes[each]) for each in np.flatnonzero(counts == 0)]
            if absent:
                found.append(
                    f"The {part} part has no row of {len(absent)} classes: "
                    f"{', '.join(absent[:NAMED])}{', …' * (len(absent) > NAMED)}."
                )
            share = counts.max() / counts.sum()
            if part == "test" and share >= MAJORITY:
                most = self.classes[int(counts.argmax())]
                found.append(
                    f"Always answering {most!r} has a test accuracy of {share:.4g}."
                )
        return found

    def describe(self) -> str:
        """Returns one line with the sizes of the dataset."""
        rows = " / ".join(f"{len(split.y):,}" for split in self.parts.values())
        outcome = (
            f"{len(self.classes)} classes"
            if self.task == "classification"
            else "a number to predict"
        )
        return (
            f"{self.name}: {rows} rows (train / validation / test), "
            f"{describe_features(self.train.x)}, {outcome}"
        )


def named(x: Features) -> Iterator[tuple[str, Array]]:
    """Yields each input with its name; the name of a single input is empty."""
    yield from x.items() if isinstance(x, dict) else [("", x)]


def is_sparse_matrix(part: Any) -> TypeGuard[sparse.csr_matrix]:
    """Says whether an object is a sparse matrix of scipy, without importing scipy."""
    scipy_sparse = sys.modules.get("scipy.sparse")
    return scipy_sparse is not None and scipy_sparse.issparse(part)


def arrays(part: Array) -> tuple[np.ndarray, ...]:
    """Returns the arrays that hold the values of an array or a CSR matrix."""
    if is_sparse_matrix(part):
        return part.indptr, part.indices, part.data
    return (part,)


def is_category(part: Array) -> TypeGuard[np.ndarray]:
    """Says whether an input is a column of category numbers."""
    dense = isinstance(part, np.ndarray) and part.ndim == 1
    return dense and np.issubdtype(part.dtype, np.integer)


def describe_features(x: Features) -> str:
    """Returns a description of the features: their kind and their number."""
    if isinstance(x, dict):
        parts = list(x.values())
        categories = [part for part in parts if is_category(part)]
        numbers = sum(part[0].size for part in parts if not is_category(part))
        values = sum(len(np.unique(part)) for part in categories)
        words = f"{len(categories)} categories with {values:,} values"
        return f"{words}, {numbers:,} numbers" if numbers else words
    if is_sparse_matrix(x):
        density = x.nnz / x.shape[0]
        return f"{x.shape[1]:,} features, {density:.0f} of them non-zero in a row"
    if x.ndim > 2:
        return f"images of {' × '.join(map(str, x.shape[1:]))}"
    return f"{x[0].size:,} numbers a row"


def check_part(what: str, split: Split) -> None:
    """Checks the rows of one part.

    Args:
        what: Words for the part, at the beginning of the message.
        split: The part.

    Raises:
        InputError: If the part has no rows, rows without a label, values that are not
            finite, or Python objects as values.
    """
    rows = len(split.y)
    if rows == 0:
        raise InputError(
            f"{what} has no rows: there are too few rows to split. Expected at least "
            "ten rows for each class."
        )
    for name, part in [*named(split.x), ("labels", split.y)]:
        shown = f"{what}, {name}" if name else what
        if not (isinstance(part, np.ndarray) or getattr(part, "format", "") == "csr"):
            raise InputError(
                f"{shown}: the data are {type(part)!r}. Expected a NumPy array or a "
                "scipy CSR matrix."
            )
        if part.shape[0] != rows:
            raise InputError(f"{shown} has {part.shape[0]} rows and {rows} labels.")
        if part.dtype == object:
            raise InputError(
                f"{shown} holds Python objects. Expected numbers or strings of a "
                "NumPy type: convert with .astype('float32') or .astype(str)."
            )
        for values in arrays(part):
            if not np.issubdtype(values.dtype, np.inexact):
                continue
            bad = ~np.isfinite(values)
            if bad.any():
                row = (
                    "" if is_sparse_matrix(part) else f", the first in row {first(bad)}"
                )
                raise InputError(
                    f"{shown}: {bad.sum()} values are not finite numbers{row}. Remove "
                    "those rows, or fill in the values."
                )


def first(bad: np.ndarray) -> int:
    """Returns the number of the first row with a bad value."""
    return int(np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))[0])


def check_alike(what: str, split: Split, train: Split) -> None:
    """Checks that a part has the same inputs as the training part.

    Args:
        what: Words for the part, at the beginning of the message.
        split: The part.
        train: The training part.

    Raises:
        InputError: If the names, shapes or types of the inputs differ.
    """
    kinds = [
        {name: (type(part), part.shape[1:]) for name, part in named(each.x)}
        for each in (split, train)
    ]
    if kinds[0] != kinds[1]:
        raise InputError(
            f"{what} has the inputs {kinds[0]}, the training part has {kinds[1]}. "
            "Expected the same in every part."
        )


def one_class_error(source: str, found: str) -> InputError:
    """Returns the error for labels that have fewer than two classes."""
    return InputError(
        f"{source} holds {found}. Classification needs at least two classes: check "
        "that the right column or file is used as the label."
    )


def encode_labels(labels: Labels, source: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Maps labels to the classes 0 to K-1, in the order of the sorted labels.

    Args:
        labels: One label a row.
        source: The origin of the labels, for the error message.

    Returns:
        The names of the classes and the class of each row.

    Raises:
        InputError: If there are fewer than two classes.
    """
    classes, codes = np.unique(np.asarray(labels), return_inverse=True)
    if len(classes) < 2:
        found = f"only the class {str(classes[0])!r}" if len(classes) else "no rows"
        raise one_class_error(source, found)
    return tuple(str(label) for label in classes), codes.astype(np.int64)


def encode_test_labels(labels: Labels, known: Labels, source: str) -> np.ndarray:
    """Maps the labels of an official test part to the classes of the training labels.

    Args:
        labels: One label a test row.
        known: The labels that `encode_labels` has mapped.
        source: The origin of the labels, for the error message.

    Raises:
        InputError: If a test label is not among the known ones.
    """
    unknown = np.setdiff1d(labels, known)
    if len(unknown):
        raise InputError(
            f"The test part of {source} has the label {unknown[0]}, which the training "
            "part does not have. Expected the same classes in both."
        )
    return np.searchsorted(np.unique(known), labels)
