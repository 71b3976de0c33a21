"""Products of a sparse matrix and a table on TensorFlow, in O(touched rows)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_adaptive.optimizers.engine.tensorflow import csr_products, rows


def is_matrix(inputs: Any) -> bool:
    """Returns whether `product` takes inputs: sparse matrices."""
    return isinstance(inputs, tf.SparseTensor) and inputs.shape.rank == 2


def product(matrix: tf.SparseTensor, variable: Any, optimizer: Any | None) -> tf.Tensor:
    """Returns a sparse matrix times a table; its gradient has each row once.

    Args:
        matrix: Float tensor of shape `(batch, height)`, with its rows in order.
        variable: The table, a Keras variable of shape `(height, width)`.
        optimizer: The optimizer that updates the table. Rows that may be behind are
            read as they are now, which has to wait for the search for distinct words.
    """
    matrix = matrix.with_values(tf.cast(matrix.values, variable.dtype))
    if optimizer is not None and optimizer.may_be_behind(variable):
        ids, taken = _distinct(matrix)
        now = rows.distinct(variable, ids, optimizer)
        result = _product(taken, now, csr_products.transposed_product)
    else:
        result = _product(matrix, rows.by_reference(variable), _by_row)
    return tf.ensure_shape(result, [matrix.shape[0], variable.shape[1]])


def _distinct(matrix: tf.SparseTensor) -> tuple[tf.Tensor, tf.SparseTensor]:
    """Returns the distinct columns of a matrix, and the matrix of these columns."""
    texts, words = tf.unstack(matrix.indices, axis=1)
    ids, places = tf.unique(words, tf.int64)
    shape = [matrix.dense_shape[0], tf.size(ids, tf.int64)]
    return ids, tf.SparseTensor(csr_products.pairs(texts, places), matrix.values, shape)


def _by_row(matrix: tf.SparseTensor, upstream: tf.Tensor) -> tf.IndexedSlices:
    """Returns the gradient of a whole table, with each row in use once."""
    ids, taken = _distinct(matrix)
    sums = csr_products.transposed_product(taken, upstream)
    shape = tf.stack([matrix.dense_shape[1], upstream.shape[1]])
    return tf.IndexedSlices(sums, ids, shape)


def _product(
    matrix: tf.SparseTensor,
    table: tf.Tensor,
    gradient_of_table: Callable[[tf.SparseTensor, tf.Tensor], Any],
) -> tf.Tensor:
    """Returns a product with its gradient.

    Args:
        matrix: The sparse matrix.
        table: The dense matrix.
        gradient_of_table: Makes it from the sparse matrix and the upstream gradient.
    """
    texts, words = tf.unstack(matrix.indices, axis=1)
    unsorted = (
        "SparseDense: the rows of a sparse input have to come in order. Call "
        "`tf.sparse.reorder` on it."
    )
    in_order = tf.reduce_all(texts[1:] >= texts[:-1])
    check = tf.debugging.Assert(in_order, [unsorted])

    @tf.custom_gradient
    def product(values: tf.Tensor, table: tf.Tensor) -> Any:
        filled = matrix.with_values(values)

        def backward(upstream: tf.Tensor) -> tuple[tf.Tensor, Any]:
            terms = tf.gather(upstream, texts) * tf.gather(table, words)
            # The search for distinct words does not depend on the product.
            return tf.reduce_sum(terms, axis=1), gradient_of_table(filled, upstream)

        result = csr_products.product(filled, table)
        # The product runs beside the check; only its result waits for the check.
        with tf.control_dependencies([check]):
            return tf.identity(result), backward

    return product(matrix.values, table)
