"""Products of sparse and dense matrices on TensorFlow, in the faster of two formats.

With many numbers, products in compressed rows (CSR) take a fraction of the time of
products by coordinates. Transposing a CSR matrix has a fixed cost, so a transposed
product of few numbers is faster by coordinates: see `benchmarks/sparse_products.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

MANY = 2**17
"""Above this size (entries × columns) CSR wins even where the matrix is transposed."""

DTYPES = (tf.float32, tf.float64)
"""The dtypes of TensorFlow's operations on compressed rows."""


def product(matrix: tf.SparseTensor, dense: tf.Tensor) -> tf.Tensor:
    """Returns a sparse matrix times a dense one.

    Args:
        matrix: The sparse matrix, with its rows in order. Repeated entries are summed.
        dense: The dense matrix.
    """
    matrix, wide = _computable(matrix, dense)
    result = _compressed(matrix) @ wide
    return tf.cast(tf.ensure_shape(result, [None, dense.shape[1]]), dense.dtype)


def transposed_product(matrix: tf.SparseTensor, dense: tf.Tensor) -> tf.Tensor:
    """Returns the transpose of a sparse matrix times a dense one; see `product`."""
    matrix, wide = _computable(matrix, dense)

    def few() -> tf.Tensor:
        return tf.sparse.sparse_dense_matmul(matrix, wide, adjoint_a=True)

    def many() -> tf.Tensor:
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

    def few() -> tf.Tensor:
        return tf.scatter_nd(segments[:, None], flat, [count, flat.shape[1]])

    def many() -> tf.Tensor:
        indices = pairs(tf.range(size), segments)
        ones = tf.SparseTensor(indices, tf.ones([size], flat.dtype), [size, count])
        return _compressed(ones).transposed @ flat

    return tf.reshape(_faster(segments, flat, few, many), [count, *shape])


def pairs(rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Returns the indices of a sparse matrix, faster than `tf.stack` along axis 1.

    Args:
        rows: int64 tensor of shape `(n,)`, of numbers from 0 to 2³¹ - 1.
        columns: The same for columns.

    Returns:
        int64 tensor of shape `(n, 2)`.
    """
    both = rows | tf.bitwise.left_shift(columns, tf.constant(32, tf.int64))
    # The lower half comes first.
    return tf.cast(tf.bitcast(both, tf.int32), tf.int64)


def _computable(
    matrix: tf.SparseTensor, dense: tf.Tensor
) -> tuple[tf.SparseTensor, tf.Tensor]:
    """Returns both matrices in a dtype that the operations compute in."""
    dtype = dense.dtype if dense.dtype in DTYPES else tf.float32
    values = tf.cast(matrix.values, dtype)
    return matrix.with_values(values), tf.cast(dense, dtype)


def _faster(
    entries: tf.Tensor,
    dense: tf.Tensor,
    few: Callable[[], tf.Tensor],
    many: Callable[[], tf.Tensor],
) -> tf.Tensor:
    count, width = entries.shape[0], dense.shape[1]
    if dense.dtype not in DTYPES:
        result = few()
    elif count is None:
        result = tf.cond(tf.size(entries) * width < MANY, few, many)
    else:
        result = (few if count * width < MANY else many)()
    return tf.ensure_shape(result, [None, width])


class _Compressed:
    """A matrix in TensorFlow's CSR format."""

    def __init__(self, matrix: tf.Tensor, dtype: tf.DType) -> None:
        self._matrix = matrix
        self._dtype = dtype

    @property
    def transposed(self) -> _Compressed:
        """The transpose, made here: as an option of the product it takes longer."""
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
