"""A dense layer for bags of words."""

from __future__ import annotations

import keras
from keras import ops

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    from keras_adaptive import sparse_products


@keras.saving.register_keras_serializable("keras_adaptive")
class SparseDense(keras.layers.Dense):
    """`keras.layers.Dense`, with a faster way for sparse matrices on TensorFlow.

    The same layer, with the same arguments, weights and results. From a sparse input
    (`keras.Input(shape, sparse=True)`) it takes the rows of the kernel that occur in
    the batch, each once, and works with these. What that gains is
    measured by `benchmarks/bag_of_words.py`. Left to `Dense` are all other inputs,
    other backends, mixed precision, LoRA and quantization.

    Args:
        units: As all other arguments: see `keras.layers.Dense`.

    Example:

    >>> import keras, keras_adaptive
    >>> words = keras.Input((10_000,), sparse=True)
    >>> hidden = keras_adaptive.layers.SparseDense(64, activation="relu")(words)
    >>> model = keras.Model(words, keras.layers.Dense(2)(hidden))
    """

    def call(self, inputs, training=None):
        if not self._is_plain_kernel or not _is_sparse_matrix(inputs):
            return super().call(inputs, training=training)
        texts, words = tf.unstack(tf.cast(inputs.indices, tf.int64), axis=1)
        ids, places = tf.unique(words, tf.int64)
        rows = tf.gather(self._kernel.value, ids)
        values = tf.cast(inputs.values, rows.dtype)
        outputs = _product(_sorted(texts), places, values, inputs.dense_shape[0], rows)
        outputs.set_shape((inputs.shape[0], self.units))
        if self.bias is not None:
            outputs = ops.add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)

    @property
    def _is_plain_kernel(self) -> bool:
        return (
            not self.lora_enabled
            and self.quantization_mode is None
            and self.compute_dtype == self.variable_dtype
        )


def _is_sparse_matrix(inputs) -> bool:
    return (
        keras.backend.backend() == "tensorflow"
        and isinstance(inputs, tf.SparseTensor)
        and inputs.shape.rank == 2
    )


def _sorted(texts):
    unsorted = (
        "SparseDense: the rows of a sparse input have to come in order. Call "
        "`tf.sparse.reorder` on it."
    )
    in_order = tf.reduce_all(texts[1:] >= texts[:-1])
    with tf.control_dependencies([tf.debugging.Assert(in_order, [unsorted])]):
        return tf.identity(texts)


def _product(texts, places, values, count, rows):
    """A sparse matrix, of values at (texts, places), times a dense one."""

    @tf.custom_gradient
    def product(values, rows):
        def backward(upstream):
            ends = tf.gather(rows, places), tf.gather(upstream, texts)
            width = tf.shape(rows, tf.int64)[0]
            return tf.reduce_sum(ends[0] * ends[1], 1), (
                sparse_products.transposed_product(
                    texts, places, values, width, upstream
                )
            )

        return sparse_products.product(texts, places, values, count, rows), backward

    return product(values, rows)
