"""Sparse matrices in compressed rows, on TensorFlow.

TensorFlow's products with these read and write each number once, which its sums
over segments and its products with a `tf.SparseTensor` do not: see
`benchmarks/segment_sum.py`.
"""

from __future__ import annotations

import tensorflow as tf

DTYPES = (tf.float32, tf.float64)
"""What TensorFlow's operations on them can compute in."""


class CompressedRows:
    """A matrix of shape `(height, width)`, most of whose entries are zero.

    Args:
        rows: int64 tensor of shape `(n,)`, the row of each entry, not decreasing.
        columns: int64 tensor of shape `(n,)`, the column of each. An entry that is
            there twice counts as the sum.
        values: Tensor of shape `(n,)` and one of `DTYPES`.
        shape: int64 tensor of shape `(2,)`.
    """

    def __init__(self, rows, columns, values, shape):
        self.dtype = values.dtype
        self._matrix = tf.raw_ops.SparseTensorToCSRSparseMatrix(
            indices=pairs(rows, columns), values=values, dense_shape=shape
        )

    @property
    def transposed(self) -> CompressedRows:
        """The matrix of shape `(width, height)`."""
        result = object.__new__(CompressedRows)
        result.dtype = self.dtype
        result._matrix = tf.raw_ops.SparseMatrixTranspose(
            input=self._matrix, type=self.dtype
        )
        return result

    def __matmul__(self, dense: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.SparseMatrixMatMul(a=self._matrix, b=dense)


def pairs(rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """The indices of a sparse matrix: `tf.stack` along axis 1, in half its time."""
    return tf.where([[True, False]], rows[:, None], columns[:, None])


def segment_sum(values: tf.Tensor, segments: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Sums rows of values, as `tf.math.unsorted_segment_sum`.

    Args:
        values: Tensor of shape `(n, ...)`, known but for n and without zeros, and
            one of `DTYPES`.
        segments: int64 tensor of shape `(n,)`, the segment of each row.
        count: int64 scalar, the number of segments.

    Returns:
        Tensor of shape `(count, ...)`.
    """
    shape = values.shape[1:]
    size = tf.size(segments, out_type=tf.int64)
    places = CompressedRows(
        tf.range(size), segments, tf.ones([size], values.dtype), [size, count]
    )
    flat = tf.reshape(values, [size, shape.num_elements()])
    return tf.reshape(places.transposed @ flat, [count, *shape])
