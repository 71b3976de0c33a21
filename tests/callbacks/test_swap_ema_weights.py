"""Keras's `SwapEMAWeights` on a table with deferred rows: the numbers of Keras."""

import keras
import numpy as np
import pytest

from keras_adaptive import optimizers

pytestmark = [pytest.mark.tensorflow, pytest.mark.usefixtures("by_row")]

HEIGHT = 40


def fit(optimizer, swap_on_epoch):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,), dtype="int32")])
    model.add(keras.layers.Embedding(HEIGHT, 2))
    model.compile(optimizer, "mse", jit_compile=False)
    x = np.arange(32).reshape(16, 2)
    y = np.random.default_rng(0).normal(size=(16, 2, 2))
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=swap_on_epoch)
    options = {"batch_size": 4, "epochs": 3, "shuffle": False, "verbose": 0}
    history = model.fit(x, y, validation_data=(x, y), callbacks=[swap], **options)
    return model.get_weights()[0], history.history["val_loss"]


@pytest.mark.parametrize("swap_on_epoch", [False, True])
def test_the_numbers_of_keras(swap_on_epoch):
    options = {"learning_rate": 0.5, "use_ema": True, "ema_momentum": 0.75}
    want, losses = fit(keras.optimizers.SGD(**options), swap_on_epoch)
    got, got_losses = fit(optimizers.SGD(**options, sparse="deferred"), swap_on_epoch)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got_losses, losses, rtol=1e-4)
