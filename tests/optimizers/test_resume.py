"""Save, load, continue equals uninterrupted training, bit for bit."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from optimizer_cases import CASES, name_of

from keras_adaptive import optimizers

OPTIONS = {
    "weight_decay": 0.1,
    "use_ema": True,
    "gradient_accumulation_steps": 3,
    "global_clipnorm": 1.0,
}


def model_for(optimizer):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            keras.layers.Embedding(50, 4),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(1),
        ]
    )
    model.compile(optimizer, loss="mse", run_eagerly=True)
    return model


def train(model, first, last):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 50, (8, 8, 5))
    y = rng.normal(size=(8, 8, 1)).astype("float32")
    for step in range(first, last):
        model.train_on_batch(x[step], y[step])


def state_of(model):
    return [*model.get_weights(), *(v.numpy() for v in model.optimizer.variables)]


def assert_same(left, right):
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("mode", ["dense", "lazy", "deferred"])
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_saved_model_goes_on(case, mode, tmp_path):
    model = model_for(case.make(sparse=mode, **OPTIONS))
    train(model, 0, 4)  # with accumulation, in the midst of it
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(loaded.get_weights(), model.get_weights())
    for each in (model, loaded):
        train(each, 4, 8)
        each.optimizer.finalize_variable_values(each.trainable_variables)
    assert_same(loaded.get_weights(), model.get_weights())
    assert loaded.optimizer.get_config() == model.optimizer.get_config()


def test_saved_weights_go_on(tmp_path):
    model = model_for(optimizers.Adam())
    train(model, 0, 3)
    model.save_weights(tmp_path / "m.weights.h5")
    other = model_for(optimizers.Adam())
    other.optimizer.build(other.trainable_variables)
    other.load_weights(tmp_path / "m.weights.h5")
    for each in (model, other):
        train(each, 3, 6)
    assert_same(state_of(other), state_of(model))


def test_state_from_before_the_first_sparse_gradient():
    model = model_for(optimizers.Adam())
    model.optimizer.build(model.trainable_variables)
    store = {}
    model.optimizer.save_own_variables(store)
    weights = model.get_weights()
    train(model, 0, 4)
    model.optimizer.flush()
    first = model.get_weights()
    model.optimizer.load_own_variables(store)
    model.set_weights(weights)
    train(model, 0, 4)
    model.optimizer.flush()
    assert_same(model.get_weights(), first)


def test_state_of_another_optimizer_is_refused():
    table = keras.Variable(np.ones((3, 2)), dtype="float32")
    saved = {}
    rmsprop = optimizers.RMSprop(momentum=0.9)
    rmsprop.build([table])
    rmsprop.save_own_variables(saved)
    adam = optimizers.Adam()
    adam.build([table])
    with pytest.raises(ValueError, match="Adam cannot load the state of RMSprop"):
        adam.load_own_variables(saved)

    by_position = {}
    keras_adam = keras.optimizers.Adam()
    keras_adam.build([table])
    keras_adam.save_own_variables(by_position)
    with pytest.raises(ValueError, match="Adam cannot load .* no slot names"):
        adam.load_own_variables(by_position)

    amsgrad = optimizers.Adam(amsgrad=True)
    amsgrad.build([table])
    other = {}
    adam.save_own_variables(other)
    with pytest.raises(ValueError, match=r"Missing: \['velocity_hat:0'\]"):
        amsgrad.load_own_variables(other)

    smaller = optimizers.Adam()
    smaller.build([keras.Variable(np.ones((2, 2)), dtype="float32")])
    with pytest.raises(ValueError, match=r"'momentum:0' of shape \(3, 2\)"):
        smaller.load_own_variables(other)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_config(case):
    optimizer = case.make(clipnorm=0.5, sparse="lazy")
    config = keras.optimizers.serialize(optimizer)
    again = keras.optimizers.deserialize(config)
    assert type(again) is case.cls
    assert again.get_config() == optimizer.get_config()


def test_checkpoint_of_tensorflow(tmp_path):
    model = model_for(optimizers.Adam())
    train(model, 0, 2)
    assert tf.train.Checkpoint(model=model).save(str(tmp_path / "checkpoint"))
