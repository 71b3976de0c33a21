"""Test rows whose informative features are rare in training."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_adaptive.datasets.dataset import (
    Dataset,
    is_category,
    is_sparse_matrix,
    named,
)
from keras_adaptive.errors import InputError, counted

RARE_BELOW = 50
"""A category or a word is rare if fewer training rows than this have it."""

HALF = 0.5
"""A text depends on rare words if they have at least this share of its weight."""


def rare_rows(data: Dataset, below: int = RARE_BELOW) -> np.ndarray:
    """Finds the test rows whose informative features are rare in training.

    A feature is rare if at least one, but fewer than `below` training rows have it: a
    feature that training never shows cannot be learned. In a table, a test row counts
    if it has a rare category. In a CSR matrix (a text), it counts if rare words have at
    least half of its squared weight. With weights that grow with rarity, as in TF-IDF,
    these words distinguish the text from others.

    Args:
        data: A dataset with categories or with a CSR matrix.
        below: Number of training rows from which a feature is no longer rare.

    Returns:
        True or False for each test row.

    Raises:
        InputError: If the data have neither categories nor a CSR matrix, or if no test
            row has rare features.

    Example:

    >>> from keras_adaptive.datasets.synthetic import RareCategories
    >>> data = RareCategories(rows=4_000).load()
    >>> bool(0.1 < rare_rows(data).mean() < 0.9)
    True
    """
    counted("below", below)
    rare = np.zeros(len(data.test.y), bool)
    known_kind = False
    tested: dict[str, Any] = dict(named(data.test.x))
    for name, train in named(data.train.x):
        if is_sparse_matrix(train):
            weights = tested[name].power(2)
            seen = train.getnnz(axis=0)
            share = weights @ ((seen > 0) & (seen < below))
            total = np.asarray(weights.sum(axis=1)).ravel()
            rare |= (share >= HALF * total) & (total > 0)
        elif is_category(train):
            seen = np.bincount(train, minlength=int(tested[name].max()) + 1)
            rare |= ((seen > 0) & (seen < below))[tested[name]]
        else:
            continue
        known_kind = True
    if not known_kind:
        raise InputError(
            f"{data.name} has neither categories nor sparse features, so no row has "
            "rare ones. Expected a text or a table with categories."
        )
    if not rare.any():
        raise InputError(
            f"No test row of {data.name} depends on features that fewer than {below} "
            "training rows have. Pass a higher limit as 'below'."
        )
    return rare


def rare_slice(data: Dataset, below: int = RARE_BELOW) -> dict[str, np.ndarray]:
    """Returns `rare_rows` as a slice of the test rows, for `Workload(slices=...)`.

    Args:
        data: A dataset with categories or with a CSR matrix.
        below: Number of training rows from which a feature is no longer rare.

    Raises:
        InputError: For the reasons of `rare_rows`.
    """
    return {"rare": rare_rows(data, below)}
