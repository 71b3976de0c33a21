"""`FlushRows`: validation and checkpoints see rows that are up to date."""

import keras
import numpy as np
import pytest

from keras_adaptive import optimizers
from keras_adaptive.callbacks import FlushRows

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only TensorFlow has sparse rows"
)

HEIGHT, BATCH, EPOCHS = 40, 4, 3
OPTIONS = {"weight_decay": 0.3, "use_ema": True, "ema_overwrite_frequency": 50}


class Seen(keras.callbacks.Callback):
    """The table when validation begins and when the epoch ends."""

    def __init__(self):
        super().__init__()
        self.tables = []

    def note(self):
        self.tables.append(self.model.layers[0].embeddings.numpy().copy())

    def on_test_begin(self, logs=None):
        self.note()

    def on_epoch_end(self, epoch, logs=None):
        self.note()


def fit(sparse, *callbacks, wrap=lambda optimizer: optimizer):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,), dtype="int32")])
    model.add(keras.layers.Embedding(HEIGHT, 2))
    # Rows do nothing but decay, so all that can differ is when they do.
    optimizer = wrap(optimizers.Adagrad(0.1, sparse=sparse, **OPTIONS))
    model.compile(optimizer, loss=lambda y, x: x * y, jit_compile=False)
    x = np.arange(32).reshape(16, 2)
    y = np.random.default_rng(0).normal(size=(16, 2, 2))
    data = {"batch_size": BATCH, "epochs": EPOCHS, "shuffle": False, "verbose": 0}
    history = model.fit(x, y, validation_data=(x, y), callbacks=list(callbacks), **data)
    return model.layers[0].embeddings.numpy(), history.history["val_loss"]


def loss_scale(optimizer):
    return keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=4.0)


def multi(optimizer):
    return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(optimizer))


@pytest.mark.parametrize("wrap", [lambda o: o, loss_scale, multi])
def test_validation_sees_rows_up_to_date(wrap):
    # The loss is linear, so gradients do not depend on the weights.
    flushed, dense, stale = Seen(), Seen(), Seen()
    got, got_losses = fit("deferred", FlushRows(), flushed, wrap=wrap)
    want, want_losses = fit("dense", dense, wrap=wrap)
    without, _ = fit("deferred", stale, wrap=wrap)
    np.testing.assert_allclose(flushed.tables, dense.tables, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got_losses, want_losses, rtol=1e-4, atol=1e-6)
    # Without it rows are behind, and the end of training is the same.
    assert np.abs(np.subtract(stale.tables, dense.tables)).max() > 1e-3
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got, without, rtol=1e-5, atol=1e-6)


def test_leaves_other_optimizers_alone():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((4, 2)), np.ones((4, 1))
    model.fit(x, y, validation_data=(x, y), callbacks=[FlushRows()], verbose=0)
    model.evaluate(x, y, callbacks=[FlushRows()], verbose=0)


def test_before_any_step():
    model = keras.Sequential([keras.Input((2,), dtype="int32")])
    model.add(keras.layers.Embedding(HEIGHT, 2))
    model.compile(optimizers.Adam(), "mse", jit_compile=False)
    x = np.ones((4, 2), int)
    model.evaluate(x, np.ones((4, 2, 2)), callbacks=[FlushRows()], verbose=0)
