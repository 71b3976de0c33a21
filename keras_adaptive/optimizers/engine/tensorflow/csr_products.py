"""Products of sparse and dense matrices on TensorFlow, the faster of two ways.

TensorFlow's products with matrices in compressed rows take a fraction of the time of
those by coordinates where there are many numbers. But to transpose such a matrix takes
longer to begin: see `benchmarks/sparse_products.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

MANY = 2**17
"""From so many numbers on, one for each entry and column, rows are compressed also
where the matrix has to be transposed."""

DTYPES = (tf.float32, tf.float64)
"""What TensorFlow's operations on compressed rows can compute in."""


def product(matrix: tf.SparseTensor, dense: tf.Tensor) -> tf.Tensor:
    """A sparse matrix, the rows of which are in order, times a dense one.

    Of an entry that is there twice the sum counts.
    """
    matrix, wide = _computable(matrix, dense)
    result = _compressed(matrix) @ wide
    return tf.cast(tf.ensure_shape(result, [None, dense.shape[1]]), dense.dtype)


def transposed_product(matrix: tf.SparseTensor, dense: tf.Tensor) -> tf.Tensor:
    """The transpose of such a sparse matrix times a dense one."""
    matrix, wide = _computable(matrix, dense)

    def few():
        return tf.sparse.sparse_dense_matmul(matrix, wide, adjoint_a=True)

    def many():
        return _compressed(matrix).transposed @ wide

    return tf.cast(_faster(matrix.values, wide, few, many), dense.dtype)


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
        return tf.scatter_nd(segments[:, None], flat, [count, flat.shape[1]])

    def many():
        indices = pairs(tf.range(size), segments)
        ones = tf.SparseTensor(indices, tf.ones([size], flat.dtype), [size, count])
        return _compressed(ones).transposed @ flat

    return tf.reshape(_faster(segments, flat, few, many), [count, *shape])


def pairs(rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """The indices of a sparse matrix: as `tf.stack` along axis 1, but faster.

    Args:
        rows: int64 tensor of shape `(n,)`, of numbers from 0 to 2³¹ - 1.
        columns: Such a tensor.

    Returns:
        int64 tensor of shape `(n, 2)`.
    """
    both = rows | tf.bitwise.left_shift(columns, tf.constant(32, tf.int64))
    # The lower half comes first.
    return tf.cast(tf.bitcast(both, tf.int32), tf.int64)


def _computable(matrix: tf.SparseTensor, dense: tf.Tensor):
    """Both in a dtype that the operations can compute in."""
    dtype = dense.dtype if dense.dtype in DTYPES else tf.float32
    values = tf.cast(matrix.values, dtype)
    return matrix.with_values(values), tf.cast(dense, dtype)


def _faster(entries, dense: tf.Tensor, few: Callable, many: Callable) -> tf.Tensor:
    count, width = entries.shape[0], dense.shape[1]
    if dense.dtype not in DTYPES:
        result = few()
    elif count is None:
        result = tf.cond(tf.size(entries) * width < MANY, few, many)
    else:
        result = (few if count * width < MANY else many)()
    return tf.ensure_shape(result, [None, width])


class _Compressed:
    """A matrix as TensorFlow's operations on compressed rows take it."""

    def __init__(self, matrix: tf.Tensor, dtype: tf.DType):
        self._matrix = matrix
        self._dtype = dtype

    @property
    def transposed(self) -> _Compressed:
        # By itself it takes less time than as an option of the product.
        transposed = tf.raw_ops.SparseMatrixTranspose(
            input=self._matrix, type=self._dtype
        )
        return _Compressed(transposed, self._dtype)

    def __matmul__(self, dense: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.SparseMatrixMatMul(a=self._matrix, b=dense)


def _compressed(matrix: tf.SparseTensor) -> _Compressed:
    compressed = tf.raw_ops.SparseTensorToCSRSparseMatrix(
        indices=matrix.indices, values=matrix.values, dense_shape=matrix.dense_shape
    )
    return _Compressed(compressed, matrix.dtype)
