"""A dense layer for bags of words."""

from __future__ import annotations

import keras
from keras import ops

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    from keras_adaptive.optimizers.engine.tensorflow import (
        csr_products as sparse_products,
    )


@keras.saving.register_keras_serializable("keras_adaptive")
class SparseDense(keras.layers.Dense):
    """`keras.layers.Dense`, with a faster way for sparse matrices on TensorFlow.

    The same layer, with the same arguments, weights and results. From a sparse input
    (`keras.Input(shape, sparse=True)`) it reads those rows of the kernel that occur in
    the batch, and the gradient has each of them once. What that gains is
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
        kernel = _by_reference(self._kernel.value)
        matrix = inputs.with_values(tf.cast(inputs.values, kernel.dtype))
        outputs = _product(matrix, kernel)
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


def _by_reference(variable):
    """The value of a variable, without a copy.

    Scattering into a variable, as Keras's SGD does, brings TensorFlow to copy it
    whenever it is read, until that is switched off. What is written while somebody
    still reads it is copied all the same.
    """
    if isinstance(variable, tf.Variable) and not tf.distribute.has_strategy():
        tf.raw_ops.DisableCopyOnRead(resource=variable.handle)
    return tf.convert_to_tensor(variable)


def _product(matrix, kernel):
    """The product, with a gradient of those rows of the kernel that it takes."""
    texts, words = tf.unstack(matrix.indices, axis=1)
    unsorted = (
        "SparseDense: the rows of a sparse input have to come in order. Call "
        "`tf.sparse.reorder` on it."
    )
    in_order = tf.reduce_all(texts[1:] >= texts[:-1])
    check = tf.debugging.Assert(in_order, [unsorted])

    @tf.custom_gradient
    def product(values, kernel):
        def backward(upstream):
            terms = tf.gather(upstream, texts) * tf.gather(kernel, words)
            # None of this waits for the product.
            ids, places = tf.unique(words, tf.int64)
            taken = tf.SparseTensor(
                sparse_products.pairs(texts, places),
                values,
                [matrix.dense_shape[0], tf.size(ids, tf.int64)],
            )
            rows = sparse_products.transposed_product(taken, upstream)
            return (
                tf.reduce_sum(terms, axis=1),
                tf.IndexedSlices(rows, ids, tf.shape(kernel, tf.int64)),
            )

        result = sparse_products.product(matrix.with_values(values), kernel)
        # The product does not wait for the check, but what comes after it does.
        with tf.control_dependencies([check]):
            return tf.identity(result), backward

    return product(matrix.values, kernel)
