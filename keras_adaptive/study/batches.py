"""Batches of a sparse matrix in a seeded order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_adaptive.study.errors import StudyError, needs_extra

with needs_extra("study"):
    from scipy import sparse

if TYPE_CHECKING:
    import tensorflow as tf


def require_tensorflow() -> None:
    """Checks that Keras runs on the one backend that has sparse gradients.

    Raises:
        StudyError: If it runs on another.
    """
    if keras.backend.backend() != "tensorflow":
        raise StudyError(
            "Sparse inputs need Keras on TensorFlow, but it runs on "
            f"{keras.backend.backend()}. Set KERAS_BACKEND=tensorflow."
        )


def epoch_orders(rows: int, epochs: int, seed: int) -> list[np.ndarray]:
    """Returns the order of the rows in each epoch, from nothing but the arguments.

    Args:
        rows: How many rows there are.
        epochs: How many epochs there are; each has an order of its own.
        seed: Seed of the training.
    """
    rng = np.random.default_rng(seed)
    return [rng.permutation(rows) for _ in range(epochs)]


def sparse_batches(
    x: sparse.csr_matrix,
    y: np.ndarray,
    batch_size: int,
    orders: Iterable[np.ndarray],
) -> tf.data.Dataset:
    """Feeds a scipy CSR matrix to a model with a sparse `Input`, never densified.

    `fit` itself would shuffle by TensorFlow's global random state, and a `PyDataset`
    passes every batch through Python. Here the orders are given, so that every
    optimizer sees the same batches, and TensorFlow picks the rows.

    Args:
        x: The features, a CSR matrix.
        y: The class of each row.
        batch_size: Rows of a batch; the last one of an epoch may be smaller.
        orders: The rows of each epoch, in the order in which they are fed.

    Returns:
        The batches of all epochs, one epoch after the other.

    Raises:
        StudyError: If Keras does not run on TensorFlow.

    Example:

    >>> x, y = sparse.eye(4, format="csr", dtype="float32"), np.array([0, 1, 0, 1])
    >>> batches = sparse_batches(x, y, 2, orders=epoch_orders(4, epochs=1, seed=0))
    >>> [len(labels) for _, labels in batches]
    [2, 2]
    """
    require_tensorflow()
    import tensorflow as tf

    columns, values = (
        tf.RaggedTensor.from_row_splits(part, x.indptr.astype(np.int64))
        for part in (x.indices.astype(np.int64), x.data)
    )
    labels = tf.constant(y)

    def pick(rows):
        column, value = tf.gather(columns, rows), tf.gather(values, rows)
        indices = tf.stack([column.value_rowids(), column.flat_values], axis=1)
        shape = tf.stack([tf.size(rows, out_type=tf.int64), x.shape[1]])
        features = tf.SparseTensor(indices, value.flat_values, shape)
        return features, tf.gather(labels, rows)

    chunks = [
        order[start : start + batch_size]
        for order in orders
        for start in range(0, len(order), batch_size)
    ]
    rows = tf.RaggedTensor.from_row_lengths(
        np.concatenate(chunks), [len(chunk) for chunk in chunks]
    )
    return tf.data.Dataset.from_tensor_slices(rows).map(pick).prefetch(1)
