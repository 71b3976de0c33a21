"""An embedding whose rows are read as they are after all steps so far."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_adaptive.layers.plain import is_plain
from keras_adaptive.optimizers.engine.backend import in_own_dtype
from keras_adaptive.optimizers.engine.sparse import tables
from keras_adaptive.optimizers.engine.sparse.primitives import rows


@keras.saving.register_keras_serializable("keras_adaptive")
class Embedding(keras.layers.Embedding):
    """`keras.layers.Embedding` for large tables, exact under deferred updates.

    Arguments, weights and files are those of Keras's layer. In a model that is trained
    by an optimizer of this package, the layer differs in two ways:

    - Its gradient is sparse, also on PyTorch, where Keras's is dense. A step then costs
      what the batch touches, and not what the table holds.
    - It reads rows of a `sparse="deferred"` optimizer as they are after all steps so
      far, although the table holds them as they were when last touched. Training,
      validation and prediction are then those of `sparse="dense"`, without a callback.

    In mixed precision, rows are read in the dtype of the table and then cast. Inside
    Keras's `LossScaleOptimizer`, which `mixed_float16` adds, a step costs the whole
    table.

    With any other optimizer, on JAX, with LoRA, when quantized, under `tf.distribute`
    and on PyTorch with `jit_compile=True`, the layer is Keras's.
    An `embeddings_regularizer` reads the whole table, with rows that may be behind; use
    `weight_decay` instead.

    Args:
        input_dim: Number of rows. This and all other arguments are those of
            `keras.layers.Embedding`.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((8,), dtype="int32"),
    ...         keras_adaptive.layers.Embedding(100_000, 16),
    ...         keras.layers.GlobalAveragePooling1D(),
    ...         keras.layers.Dense(1, activation="sigmoid"),
    ...     ]
    ... )
    >>> model.compile(keras_adaptive.optimizers.Adam(0.01), "binary_crossentropy")
    """

    def build(self, input_shape: Any = None) -> None:
        """Creates the table; see Keras."""
        super().build(input_shape)
        if is_plain(self):
            tables.register(self._embeddings)

    def call(self, inputs: Any) -> Any:
        """Returns the rows of the ids.

        Args:
            inputs: Integer tensor of any shape.

        Returns:
            A tensor with one more axis, of the size `output_dim`.
        """
        optimizer = None
        if is_plain(self) and rows is not None and rows.can_look_up(inputs):
            optimizer = tables.optimizer_of(self._embeddings)
        if optimizer is None:
            return super().call(inputs)
        ids = ops.cast(inputs, "int64")
        ids = ops.where(ids < 0, ids + self.input_dim, ids)
        with in_own_dtype():
            taken = rows.lookup(self._embeddings, ids, optimizer)
        return ops.cast(taken, self.compute_dtype)
