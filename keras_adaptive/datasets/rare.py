"""Which test rows hang on features that are rare in training?"""

from __future__ import annotations

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
"""A text hangs on rare words if they hold at least this share of its weight."""


def rare_rows(data: Dataset, below: int = RARE_BELOW) -> np.ndarray:
    """Tells the test rows whose informative features are rare in training.

    Of a table, these are the rows with a category that fewer than `below` training rows
    have, but one at least: nobody can learn about a category that training never shows.
    Of a text (a CSR matrix), the rows that have at least half of their squared weight
    on words of that kind; with weights that grow with rarity, as those of our texts do,
    these are the words that tell the text from others.

    Args:
        data: A dataset with categories or with a CSR matrix.
        below: Training rows from which on a feature is not rare.

    Returns:
        True or False for each test row.

    Raises:
        InputError: If the data have neither categories nor a CSR matrix, or if no test
            row is like that.

    Example:

    >>> from keras_adaptive.datasets.synthetic import RareCategories
    >>> data = RareCategories(rows=4_000).load()
    >>> bool(0.1 < rare_rows(data).mean() < 0.9)
    True
    """
    counted("below", below)
    rare = np.zeros(len(data.test.y), bool)
    looked_at = False
    tested = dict(named(data.test.x))
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
        looked_at = True
    if not looked_at:
        raise InputError(
            f"{data.name} has neither categories nor sparse features, so no row has "
            "rare ones. Expected a text or a table with categories."
        )
    if not rare.any():
        raise InputError(
            f"No test row of {data.name} hangs on features that fewer than {below} "
            "training rows have. Name a higher limit."
        )
    return rare


def rare_slice(data: Dataset, below: int = RARE_BELOW) -> dict[str, np.ndarray]:
    """Returns `rare_rows` as a slice of the test rows, for `Workload(slices=...)`.

    Args:
        data: A dataset with categories or with a CSR matrix.
        below: Training rows from which on a feature is not rare.

    Raises:
        InputError: As `rare_rows` does.
    """
    return {"rare": rare_rows(data, below)}
