"""Batches of a sparse matrix in a seeded order."""

import keras
import numpy as np

from keras_adaptive.study.errors import StudyError, needs_extra

with needs_extra("study"):
    from scipy import sparse


def epoch_order(rows: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the order of the rows in an epoch, from nothing but the arguments.

    Args:
        rows: How many rows there are.
        seed: Seed of the training.
        epoch: Number of the epoch; each has an order of its own.
    """
    return np.random.default_rng([seed, epoch]).permutation(rows)


class SparseBatches(keras.utils.PyDataset):
    """Feeds a scipy CSR matrix to a model with a sparse `Input`, never densified.

    Training data is reshuffled every epoch, in an order that depends on the seed and
    the epoch alone, so that every optimizer sees the same batches. That needs
    `shuffle=False` in `fit`, else Keras mixes the batches by the global random state.

    Args:
        x: The features, a CSR matrix.
        y: The class of each row.
        batch_size: Rows of a batch; the last one may be smaller.
        seed: Seed of the orders. `None` keeps the order of the rows, as evaluation
            does.

    Raises:
        StudyError: If Keras does not run on TensorFlow, the one backend that trains
            on sparse inputs with sparse gradients.

    Example:

    >>> batches = SparseBatches(data.train.x, data.train.y, batch_size=128, seed=0)
    >>> model.fit(batches, epochs=5, shuffle=False)
    """

    def __init__(
        self, x: sparse.csr_matrix, y: np.ndarray, batch_size: int, seed: int | None
    ):
        super().__init__()
        if keras.backend.backend() != "tensorflow":
            raise StudyError(
                "Sparse inputs need Keras on TensorFlow, but it runs on "
                f"{keras.backend.backend()}. Set KERAS_BACKEND=tensorflow."
            )
        self.x = x
        self.y = y
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.order = self._order()

    def _order(self) -> np.ndarray:
        rows = len(self.y)
        if self.seed is None:
            return np.arange(rows)
        return epoch_order(rows, self.seed, self.epoch)

    def __len__(self) -> int:
        return -(-len(self.y) // self.batch_size)

    def __getitem__(self, index: int):
        import tensorflow as tf

        start = index * self.batch_size
        rows = self.order[start : start + self.batch_size]
        x = self.x[rows]
        x.sort_indices()
        row_of_value = np.repeat(np.arange(len(rows)), np.diff(x.indptr))
        indices = np.column_stack([row_of_value, x.indices]).astype(np.int64)
        return tf.SparseTensor(indices, x.data, x.shape), self.y[rows]

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self.order = self._order()
