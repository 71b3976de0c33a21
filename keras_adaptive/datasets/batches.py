"""Batches of a dataset in a seeded order, on every backend."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeAlias

import keras
import numpy as np

from keras_adaptive.datasets.dataset import is_sparse_matrix
from keras_adaptive.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf

    from keras_adaptive.datasets.dataset import Split

EVALUATION_BATCH = 512

Order = Callable[[int], np.ndarray]
"""A function from the number of an epoch to the order of its rows."""

Batches: TypeAlias = "tf.data.Dataset | keras.utils.PyDataset"


def is_sparse(x: Any) -> bool:
    """Says whether some of the features are a sparse matrix."""
    parts = x.values() if isinstance(x, dict) else [x]
    return any(is_sparse_matrix(part) for part in parts)


def require_tensorflow() -> None:
    """Checks that Keras runs on TensorFlow, the only backend with sparse gradients.

    Raises:
        InputError: If Keras runs on another backend.
    """
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            "Sparse inputs need Keras on TensorFlow, but it runs on "
            f"{keras.backend.backend()}. Set KERAS_BACKEND=tensorflow."
        )


def epoch_order(rows: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the order of the rows in an epoch, decided by the arguments alone.

    Args:
        rows: Number of rows.
        seed: Seed of the training.
        epoch: Number of the epoch; the order differs from epoch to epoch.
    """
    return np.random.default_rng([seed, epoch]).permutation(rows)


def training_batches(split: Split, batch_size: int, seed: int) -> Batches:
    """Feeds rows for training, shuffled by the seed in each epoch.

    Every optimizer sees the same batches, while `fit` itself shuffles by the backend's
    global random state. The last batch of an epoch may be smaller. With Keras on
    TensorFlow, TensorFlow itself cuts the batches, and a CSR matrix stays sparse.

    Args:
        split: The rows.
        batch_size: Rows of a batch.
        seed: Seed of the training.

    Returns:
        The batches without end: pass `steps_per_epoch` and `shuffle=False` to `fit`.

    Raises:
        InputError: If the features are sparse and Keras does not run on TensorFlow.

    Example:

    >>> from keras_adaptive.datasets import Split
    >>> rows = Split(np.eye(600, dtype="float32"), np.arange(600) % 2)
    >>> model = keras.Sequential([keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> batches = training_batches(rows, batch_size=32, seed=0)
    >>> history = model.fit(batches, steps_per_epoch=19, shuffle=False, verbose=0)
    """
    order = partial(epoch_order, len(split.y), seed)
    return _batches(split, batch_size, order)


def evaluation_batches(split: Split, batch_size: int = EVALUATION_BATCH) -> Batches:
    """Feeds all rows once, in their order.

    Args:
        split: The rows.
        batch_size: Rows of a batch.

    Returns:
        The batches.

    Raises:
        InputError: If the features are sparse and Keras does not run on TensorFlow.

    Example:

    >>> from keras_adaptive.datasets import Split
    >>> rows = Split(np.eye(600, dtype="float32"), np.arange(600))
    >>> [len(labels) for _, labels in evaluation_batches(rows)]
    [512, 88]
    """
    return _batches(split, batch_size)


def _batches(split: Split, batch_size: int, order: Order | None = None) -> Batches:
    """Feeds rows without end in the given order, or once in their own."""
    if keras.backend.backend() == "tensorflow":
        return _tensorflow_batches(split, batch_size, order)
    if is_sparse(split.x):
        require_tensorflow()
    return _ArrayBatches(split, batch_size, order)


def as_fed(part: np.ndarray) -> np.ndarray:
    """Returns an array in Keras's precision, as `fit` itself makes it."""
    if np.issubdtype(part.dtype, np.floating):
        return np.asarray(part, keras.config.floatx())
    return np.asarray(part)


def each_input(function: Callable[[Any], Any], x: Any) -> Any:
    """Applies a function to the features, or to each of the named inputs."""
    if isinstance(x, dict):
        return {name: function(part) for name, part in x.items()}
    return function(x)


class _ArrayBatches(keras.utils.PyDataset):
    """Batches of NumPy arrays."""

    def __init__(self, split: Split, batch_size: int, order: Order | None) -> None:
        super().__init__()
        rows = np.arange(len(split.y))
        self._x, self._y = each_input(as_fed, split.x), as_fed(split.y)
        self._batch_size = batch_size
        self._per_epoch = math.ceil(len(split.y) / batch_size)
        self._order = lru_cache(maxsize=1)(order) if order else lambda epoch: rows
        self._endless = order is not None

    @property
    def num_batches(self) -> int | None:
        """Number of batches; `None` if they have no end."""
        return None if self._endless else self._per_epoch

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        epoch, batch = divmod(index, self._per_epoch)
        start = batch * self._batch_size
        rows = self._order(epoch)[start : start + self._batch_size]
        return each_input(lambda part: part[rows], self._x), self._y[rows]


def _tensorflow_batches(
    split: Split, batch_size: int, order: Order | None
) -> tf.data.Dataset:
    """Feeds rows that TensorFlow itself gathers; a CSR matrix stays sparse."""
    import tensorflow as tf

    from keras_adaptive.optimizers.engine.tensorflow.csr_products import pairs

    as_it_is = tf.autograph.experimental.do_not_convert
    count = len(split.y)
    in_full_batches = count - count % batch_size

    def cut(rows: Any) -> tf.data.Dataset:
        full = tf.reshape(rows[:in_full_batches], [-1, batch_size])
        batches = tf.data.Dataset.from_tensor_slices(full)
        if in_full_batches == count:
            return batches
        rest = tf.data.Dataset.from_tensors(rows[in_full_batches:])
        return batches.concatenate(rest)

    @as_it_is
    def epoch_batches(epoch: Any) -> tf.data.Dataset:
        rows = tf.numpy_function(order, [epoch], tf.int64)
        return cut(tf.ensure_shape(rows, [count]))

    def all_rows() -> tf.data.Dataset:
        if order is None:
            return cut(np.arange(count))
        epochs = tf.data.Dataset.range(np.iinfo(np.int64).max)
        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        return epochs.flat_map(epoch_batches).apply(endless)

    def picker(part: Any) -> Callable[[Any], Any]:
        if not is_sparse_matrix(part):
            whole = tf.constant(as_fed(part))
            return lambda rows: tf.gather(whole, rows)
        if part.shape[1] > 2**31:
            raise InputError(
                f"A sparse matrix of {part.shape[1]:,} columns is too wide for "
                f"batches: at most {2**31:,} are possible. Hash its features to fewer."
            )
        splits = part.indptr.astype(np.int64)
        columns, values = (
            # scipy has already validated them.
            tf.RaggedTensor.from_row_splits(each, splits, validate=False)
            for each in (part.indices.astype(np.int64), as_fed(part.data))
        )

        def pick_sparse(rows: Any) -> Any:
            column, value = tf.gather(columns, rows), tf.gather(values, rows)
            shape = tf.stack([tf.size(rows, out_type=tf.int64), part.shape[1]])
            # The row of each value, and its place there, which the column replaces.
            places = value.to_sparse()
            indices = pairs(places.indices[:, 0], column.flat_values)
            return tf.SparseTensor(indices, value.flat_values, shape)

        return pick_sparse

    pick_x, pick_y = each_input(picker, split.x), picker(split.y)

    @as_it_is
    def pick(rows: Any) -> tuple[Any, Any]:
        return each_input(lambda pick: pick(rows), pick_x), pick_y(rows)

    options = tf.data.Options()
    # With tuning, the end of an iterator can wait for the next round of the tuner.
    options.autotune.enabled = False
    # There is only one map; looking for rewrites would delay each new iterator.
    options.experimental_optimization.apply_default_optimizations = False
    # Batches are prepared ahead with one thread, which leaves the rest to the steps.
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    return all_rows().map(pick).prefetch(1).with_options(options)
