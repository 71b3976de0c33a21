"""A dense layer for bags of words."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_adaptive.layers.plain import is_plain

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    from keras_adaptive.optimizers.engine.tensorflow import csr_products, rows


@keras.saving.register_keras_serializable("keras_adaptive")
class SparseDense(keras.layers.Dense):
    """`keras.layers.Dense` with a faster path for sparse matrices on TensorFlow.

    Arguments, weights and results are those of `Dense`. With a sparse input
    (`keras.Input(shape, sparse=True)`) the layer reads only the rows of the kernel that
    occur in the batch, and the gradient has each of these rows once.
    `benchmarks/bag_of_words.py` measures the gain. All other inputs, other backends,
    mixed precision, LoRA and quantization take the path of `Dense`.

    Args:
        units: Number of outputs. This and all other arguments are those of
            `keras.layers.Dense`.

    Example:

    >>> import keras, keras_adaptive
    >>> words = keras.Input((10_000,), sparse=True)
    >>> hidden = keras_adaptive.layers.SparseDense(64, activation="relu")(words)
    >>> model = keras.Model(words, keras.layers.Dense(2)(hidden))
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the outputs of the layer."""
        if not is_plain(self) or not _is_sparse_matrix(inputs):
            return super().call(inputs, training=training)
        kernel = rows.by_reference(self._kernel)
        matrix = inputs.with_values(tf.cast(inputs.values, kernel.dtype))
        outputs = _product(matrix, kernel)
        outputs.set_shape((inputs.shape[0], self.units))
        if self.bias is not None:
            outputs = ops.add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)


def _is_sparse_matrix(inputs: Any) -> bool:
    return (
        keras.backend.backend() == "tensorflow"
        and isinstance(inputs, tf.SparseTensor)
        and inputs.shape.rank == 2
    )


def _product(matrix: Any, kernel: Any) -> Any:
    """Returns the product, whose gradient has only the rows of the kernel in use."""
    texts, words = tf.unstack(matrix.indices, axis=1)
    unsorted = (
        "SparseDense: the rows of a sparse input have to come in order. Call "
        "`tf.sparse.reorder` on it."
    )
    in_order = tf.reduce_all(texts[1:] >= texts[:-1])
    check = tf.debugging.Assert(in_order, [unsorted])

    @tf.custom_gradient
    def product(values: Any, kernel: Any) -> Any:
        def backward(upstream: Any) -> tuple[Any, Any]:
            terms = tf.gather(upstream, texts) * tf.gather(kernel, words)
            # These operations do not depend on the product.
            ids, places = tf.unique(words, tf.int64)
            taken = tf.SparseTensor(
                csr_products.pairs(texts, places),
                values,
                [matrix.dense_shape[0], tf.size(ids, tf.int64)],
            )
            rows = csr_products.transposed_product(taken, upstream)
            return (
                tf.reduce_sum(terms, axis=1),
                tf.IndexedSlices(rows, ids, tf.shape(kernel, tf.int64)),
            )

        result = csr_products.product(matrix.with_values(values), kernel)
        # The product runs beside the check; only its result waits for the check.
        with tf.control_dependencies([check]):
            return tf.identity(result), backward

    return product(matrix.values, kernel)
