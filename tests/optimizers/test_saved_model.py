"""Optimizers that Keras makes within `compile` are saved by TensorFlow all the same."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from optimizer_cases import CATALOGUE, WRAPPERS, name_of

from keras_adaptive import optimizers

pytestmark = pytest.mark.tensorflow

SOAP = next(case for case in CATALOGUE if case.name == "soap")


def compiled(optimizer):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(keras.saving.serialize_keras_object(optimizer), "mse")
    return model


@pytest.mark.parametrize("case", [*WRAPPERS, SOAP], ids=name_of)
def test_an_optimizer_from_a_config_is_saved(case, tmp_path):
    """`compile` switches Keras's tracking off, so that TensorFlow's takes over."""
    model = compiled(case.make())
    model.optimizer.build(model.trainable_variables)
    tf.saved_model.save(model.optimizer, str(tmp_path))


def test_a_model_with_one_is_exported(tmp_path):
    model = compiled(optimizers.Lookahead(optimizers.SGD(0.1)))
    x, y = np.ones((4, 3), "float32"), np.ones((4, 2), "float32")
    model.fit(x, y, verbose=0)
    model.export(str(tmp_path), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_allclose(loaded.serve(x), model.predict(x, verbose=0), rtol=1e-6)
