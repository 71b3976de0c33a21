"""Products of sparse and dense matrices on TensorFlow, the faster of two ways.

TensorFlow's products with matrices in compressed rows read and write each number
once, where gathering rows and summing them by segments goes over them several times.
But they take longer to begin: see `benchmarks/sparse_products.py`.

In all of these the sparse matrix has `values` at places `(rows, columns)`. These are
int64 tensors of shape `(n,)`, the rows in order; of an entry that is there twice the
sum counts. Dense are tensors with two axes.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

MANY = 2**16
"""From so many numbers on, one for each entry and column, rows are compressed."""

DTYPES = (tf.float32, tf.float64)
"""What TensorFlow's operations on compressed rows can compute in."""


def product(rows, columns, values, height, dense: tf.Tensor) -> tf.Tensor:
    """A sparse matrix of so many rows times a dense one."""

    def few():
        terms = tf.gather(dense, columns) * values[:, None]
        return tf.math.unsorted_segment_sum(terms, rows, height)

    def many():
        shape = [height, tf.shape(dense, tf.int64)[0]]
        return _compressed(rows, columns, values, shape, dense)

    return _faster(columns, dense, few, many)


def transposed_product(rows, columns, values, width, dense: tf.Tensor) -> tf.Tensor:
    """The transpose of a sparse matrix of so many columns, times a dense one."""

    def few():
        terms = tf.gather(dense, rows) * values[:, None]
        return tf.math.unsorted_segment_sum(terms, columns, width)

    def many():
        shape = [tf.shape(dense, tf.int64)[0], width]
        return _compressed(rows, columns, values, shape, dense, transpose=True)

    return _faster(rows, dense, few, many)


def segment_sum(values: tf.Tensor, segments: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Sums rows of values, as `tf.math.unsorted_segment_sum`.

    Args:
        values: Tensor of shape `(n, ...)`, known but for n and without zeros.
        segments: int64 tensor of shape `(n,)`, the segment of each row.
        count: int64 scalar, the number of segments.

    Returns:
        Tensor of shape `(count, ...)`.
    """
    shape = values.shape[1:]
    size = tf.size(segments, tf.int64)
    flat = tf.reshape(values, [size, shape.num_elements()])

    def few():
        return tf.math.unsorted_segment_sum(flat, segments, count)

    def many():
        ones = tf.ones([size], values.dtype)
        places = tf.range(size), segments
        return _compressed(*places, ones, [size, count], flat, transpose=True)

    return tf.reshape(_faster(segments, flat, few, many), [count, *shape])


def _faster(entries, dense: tf.Tensor, few: Callable, many: Callable) -> tf.Tensor:
    if dense.dtype not in DTYPES:
        return few()
    result = tf.cond(tf.size(entries) * dense.shape[1] < MANY, few, many)
    return tf.ensure_shape(result, [None, dense.shape[1]])


def _compressed(rows, columns, values, shape, dense, transpose=False) -> tf.Tensor:
    matrix = tf.raw_ops.SparseTensorToCSRSparseMatrix(
        indices=pairs(rows, columns), values=values, dense_shape=shape
    )
    if transpose:
        # By itself it takes less time than as an option of the product.
        matrix = tf.raw_ops.SparseMatrixTranspose(input=matrix, type=values.dtype)
    return tf.raw_ops.SparseMatrixMatMul(a=matrix, b=dense)


def pairs(rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """The indices of a sparse matrix: `tf.stack` along axis 1, in half its time."""
    return tf.where([[True, False]], rows[:, None], columns[:, None])
