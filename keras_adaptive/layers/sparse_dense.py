"""A dense layer for bags of words."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_adaptive.layers.plain import is_plain
from keras_adaptive.optimizers.engine.backend import in_own_dtype
from keras_adaptive.optimizers.engine.sparse import tables
from keras_adaptive.optimizers.engine.sparse.primitives import bags, rows


@keras.saving.register_keras_serializable("keras_adaptive", name="SparseDense")
class SparseDense(keras.layers.Dense):
    """`keras.layers.Dense` for sparse matrices, such as bags of words.

    Arguments, weights, results and files are those of `Dense`. With a sparse input, a
    step costs what the batch touches:

    - The layer reads only the rows of the kernel that occur in the batch. The gradient
      has each of these rows once. On PyTorch it is sparse in a model that is trained by
      an optimizer of this package, and dense with any other.
    - It reads rows of a `sparse="deferred"` optimizer as they are after all steps so
      far, as `layers.Embedding` does. Training, validation and prediction are then
      those of `sparse="dense"`, without a callback.

    On TensorFlow, a sparse input is a `tf.SparseTensor`: say
    `keras.Input(shape, sparse=True)`, and give `fit` a SciPy matrix. On PyTorch, it is
    a sparse COO or CSR tensor of two axes. Keras makes a SciPy matrix dense there, so
    give `fit` batches of sparse tensors; `docs/sparse_gradients.md` shows how.

    In mixed precision, the product is computed in the dtype of the kernel. Dense
    inputs, JAX, LoRA and quantization take the path of `Dense`, and so does PyTorch
    with `jit_compile=True`. A `kernel_regularizer` reads the whole kernel, with rows
    that may be behind; use `weight_decay` instead.

    Args:
        units: Number of outputs. This and all other arguments are those of
            `keras.layers.Dense`.

    Raises:
        tensorflow.errors.InvalidArgumentError: The rows of a `tf.SparseTensor` are not
            in order.

    Example:

    >>> import keras, keras_adaptive
    >>> sparse = keras.backend.backend() == "tensorflow"
    >>> words = keras.Input((10_000,), sparse=sparse)
    >>> hidden = keras_adaptive.layers.SparseDense(64, activation="relu")(words)
    >>> model = keras.Model(words, keras.layers.Dense(2)(hidden))
    """

    def build(self, input_shape: Any) -> None:
        """Creates the weights; see Keras."""
        super().build(input_shape)
        if is_plain(self):
            tables.register(self._kernel)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the outputs of the layer.

        Args:
            inputs: Sparse matrix of shape `(batch, features)`, or what `Dense` takes.
            training: Not used, as in `Dense`.

        Returns:
            A tensor of shape `(batch, units)` and of the layer's compute dtype.
        """
        if bags is None or not is_plain(self) or not bags.is_matrix(inputs):
            return super().call(inputs, training=training)
        optimizer = None
        if rows.can_look_up(inputs):
            optimizer = tables.optimizer_of(self._kernel)
        with in_own_dtype():
            outputs = bags.product(inputs, self._kernel, optimizer)
        outputs = ops.cast(outputs, self.compute_dtype)
        if self.bias is not None:
            outputs = ops.add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)


# Keras names weights in files by the class of their layer.
SparseDense.__name__ = keras.layers.Dense.__name__
