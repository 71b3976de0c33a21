"""Interrupted, saved, loaded and continued is the same as uninterrupted."""

import json
import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from optimizer_cases import CASES, MODES, Ramp, name_of
from sparse_problem import batches, variables
from training import stepper, values

from keras_adaptive import optimizers

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

CASE = next(case for case in CASES if case.name == "adam-amsgrad")
OPTIONS = {
    "weight_decay": 0.1,
    "use_ema": True,
    "gradient_accumulation_steps": 3,
    "learning_rate": 0.02,
}
STOP, END = 5, 9
"""Stopped in the middle of an accumulation."""


def assert_equal(got, want):
    for g, w in zip(got, want, strict=True):
        np.testing.assert_array_equal(g, w)


def saved(optimizer):
    store = {}
    optimizer.save_own_variables(store)
    return store


def built_copy(optimizer, model=None):
    copy = type(optimizer).from_config(optimizer.get_config())
    copy.build(model or variables())
    return copy


@pytest.mark.parametrize("sparse_gradients", [True, False], ids=["sparse", "dense"])
@pytest.mark.parametrize(("case", "mode"), MODES, ids=name_of)
def test_state_by_name(case, mode, sparse_gradients):
    model, optimizer = variables(), case.make(sparse=mode, **OPTIONS)
    step = stepper(optimizer, model, sparse_gradients, "eager")
    for batch in batches(STOP):
        step(batch)
    weights, store = values(model), saved(optimizer)
    for batch in batches(END)[STOP:]:
        step(batch)
    optimizer.finalize_variable_values(model)

    again = variables()
    copy = built_copy(optimizer, again)
    for variable, value in zip(again, weights, strict=True):
        variable.assign(value)
    copy.load_own_variables(store)
    assert saved(copy).keys() == store.keys()
    step = stepper(copy, again, sparse_gradients, "eager")
    for batch in batches(END)[STOP:]:
        step(batch)
    copy.finalize_variable_values(again)
    assert_equal(values(again), values(model))
    got, want = saved(copy), saved(optimizer)
    assert got.keys() == want.keys()
    assert_equal([got[name] for name in want], want.values())


def test_state_is_kept_by_slot_name():
    optimizer = built_copy(CASE.make(use_ema=True))
    store = saved(optimizer)
    assert {"momentum:0", "velocity:2", "velocity_hat:1", "average:0"} <= store.keys()
    assert {"iteration", "learning_rate"} <= store.keys()


# Through models.


def model_of(optimizer):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,), dtype="int32")
    x = keras.layers.Embedding(11, 3)(inputs)
    x = keras.layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    model.compile(optimizer, "mse", jit_compile=False)
    return model


def train(model, start=0, stop=END):
    rng = np.random.default_rng(0)
    data = [(rng.integers(0, 11, (6, 4)), rng.normal(size=(6, 1))) for _ in range(END)]
    for x, y in data[start:stop]:
        model.train_on_batch(x, y)
    return model


def wrapped(kind, mode="deferred"):
    inner = CASE.make(sparse=mode, **OPTIONS)
    if kind == "loss-scale":
        return keras.optimizers.LossScaleOptimizer(inner, 8.0, dynamic_growth_steps=3)
    if kind == "multi":
        return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(inner))
    return inner


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("plain", mode) for mode in CASE.modes] + [("loss-scale", "deferred")],
)
def test_model_file(kind, mode, tmp_path):
    whole = train(model_of(wrapped(kind, mode)))
    part = train(model_of(wrapped(kind, mode)), stop=STOP)
    part.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    train(again, start=STOP)
    assert_equal(again.get_weights(), whole.get_weights())


@pytest.mark.parametrize("kind", ["loss-scale", "multi"])
def test_model_file_of_wrapped_optimizers_loads_all_state(kind, tmp_path):
    part = train(model_of(wrapped(kind)), stop=STOP)
    part.save(tmp_path / "model.keras")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Skipping variable loading")
        again = keras.saving.load_model(tmp_path / "model.keras")
    if kind == "loss-scale":
        assert float(part.optimizer.dynamic_scale) == 16.0
        assert float(again.optimizer.dynamic_scale) == 16.0


def test_weights_file(tmp_path):
    whole = train(model_of(wrapped("plain")))
    part = train(model_of(wrapped("plain")), stop=STOP)
    part.save_weights(tmp_path / "model.weights.h5")
    again = model_of(wrapped("plain"))
    again.optimizer.build(again.trainable_variables)
    again.load_weights(tmp_path / "model.weights.h5")
    train(again, start=STOP)
    assert_equal(again.get_weights(), whole.get_weights())


def test_weights_file_before_the_optimizer_is_built(tmp_path):
    """Keras's own optimizers skip their state here, with a warning."""
    part = train(model_of(wrapped("plain")), stop=STOP)
    part.save_weights(tmp_path / "model.weights.h5")
    again = model_of(wrapped("plain"))
    again.load_weights(tmp_path / "model.weights.h5")
    whole = train(model_of(wrapped("plain")))
    assert_equal(train(again, start=STOP).get_weights(), whole.get_weights())


def test_model_file_of_an_untrained_model(tmp_path):
    """As with Keras's optimizers: compile, save, load."""
    model = model_of(wrapped("plain"))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert_equal(train(again).get_weights(), train(model).get_weights())


def test_checkpoint(tmp_path):
    whole = train(model_of(wrapped("plain")))
    part = train(model_of(wrapped("plain")), stop=STOP)
    checkpoint = tf.train.Checkpoint(model=part, optimizer=part.optimizer)
    path = checkpoint.save(str(tmp_path / "checkpoint"))
    again = model_of(wrapped("plain"))
    again.optimizer.build(again.trainable_variables)
    restored = tf.train.Checkpoint(model=again, optimizer=again.optimizer).restore(path)
    train(again, start=STOP)
    restored.assert_consumed()
    assert_equal(again.get_weights(), whole.get_weights())


def test_backup_and_restore(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 11, (48, 4)), rng.normal(size=(48, 1))

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    def fit(*callbacks):
        model = model_of(CASE.make(weight_decay=0.1, gradient_accumulation_steps=3))
        options = {"epochs": 2, "batch_size": 6, "shuffle": False, "verbose": 0}
        model.fit(x, y, callbacks=list(callbacks), **options)
        return model.get_weights()

    whole = fit()
    with pytest.raises(KeyboardInterrupt):
        fit(keras.callbacks.BackupAndRestore(tmp_path / "backup"), Interrupt())
    again = fit(keras.callbacks.BackupAndRestore(tmp_path / "backup"))
    # The interruption brought the rows up to date: not the same rounding.
    for got, want in zip(again, whole, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


# Configurations.


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_config_round_trip(case):
    options = {**OPTIONS, "sparse": "lazy", "clipnorm": 0.5, "name": "mine"}
    optimizer = case.make(**{**options, "learning_rate": Ramp()})
    config = optimizer.get_config()
    assert json.loads(json.dumps(config)) == config
    given = {**case.arguments, **options}
    given.pop("learning_rate")
    assert {name: config[name] for name in given} == given
    scope = {"Ramp": Ramp}
    assert type(optimizer).from_config(dict(config), scope).get_config() == config
    serialized = keras.optimizers.serialize(optimizer)
    again = keras.optimizers.deserialize(serialized, custom_objects=scope)
    assert type(again) is type(optimizer) and again.get_config() == config
    registered = keras.saving.get_registered_name(type(optimizer))
    assert registered == f"keras_adaptive>{type(optimizer).__name__}"


# State that does not fit.


def refused(optimizer, store):
    """The error; nothing may have changed."""
    before = saved(optimizer)
    with pytest.raises(ValueError) as error:
        optimizer.load_own_variables(store)
    after = saved(optimizer)
    assert after.keys() == before.keys()
    assert_equal(after.values(), before.values())
    return str(error.value)


def test_state_of_another_optimizer_is_refused():
    model = variables()
    store = saved(built_copy(optimizers.RMSprop(), model))
    message = refused(built_copy(optimizers.Adam(), model), store)
    assert "Adam" in message and "RMSprop" in message


def test_state_of_keras_with_other_options_is_refused():
    model, store = variables(), {}
    theirs = keras.optimizers.Adam(amsgrad=True)
    theirs.build(model)
    theirs.save_own_variables(store)
    message = refused(built_copy(optimizers.Adam(), model), store)
    assert "Keras's Adam" in message and "same options" in message


@pytest.mark.parametrize(
    ("writer", "listed"),
    [
        (optimizers.Adam(amsgrad=True), "left out: velocity_hat of table"),
        (optimizers.Adam(row_wise=True), "anew: velocity of table"),
    ],
)
def test_state_of_other_options_starts_anew_with_a_warning(writer, listed):
    model = variables()
    store = saved(built_copy(writer, model))
    reader = built_copy(optimizers.Adam(), model)
    with pytest.warns(UserWarning, match=listed):
        reader.load_own_variables(store)
    again = saved(reader)
    assert_equal([again["momentum:0"]], [store["momentum:0"]])


@pytest.mark.parametrize(
    ("name", "value"),
    [("iteration", -5), ("row_clock:0", 10**6), ("momentum:0", 1j)],
)
def test_impossible_state_is_refused(name, value):
    model, optimizer = variables(), optimizers.Adam(sparse="deferred")
    for batch in batches(2):
        stepper(optimizer, model, how="eager")(batch)
    store = saved(optimizer)
    store[name] = np.full_like(store[name], value, dtype=np.result_type(value))
    assert name in refused(optimizer, store)


# From TensorFlow to JAX.

CONTINUE_ON_JAX = """
import sys
import numpy as np
import keras
from keras_adaptive import optimizers

folder = sys.argv[1]
store = dict(np.load(folder + "/state.npz"))
weights = dict(np.load(folder + "/weights.npz"))
names = ["table", "excluded", "bias"]
model = [keras.Variable(weights[n], dtype="float64", name=n) for n in names]
optimizer = optimizers.Adam(weight_decay=0.1, use_ema=True)
optimizer.build(model)
optimizer.load_own_variables(store)
for step in range(3):
    optimizer.apply([keras.ops.ones(v.shape, "float64") for v in model], model)
optimizer.finalize_variable_values(model)
np.savez(folder + "/continued.npz", **{n: v.value for n, v in zip(names, model)})
"""


def run_on_jax(folder):
    return subprocess.run(
        [sys.executable, "-c", CONTINUE_ON_JAX, str(folder)],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1"},
        capture_output=True,
        text=True,
    )


def test_state_from_tensorflow_on_jax(tmp_path):
    pytest.importorskip("jax")
    model = variables()
    optimizer = optimizers.Adam(weight_decay=0.1, use_ema=True)
    step = stepper(optimizer, model, how="eager")
    for batch in batches(STOP):
        step(batch)

    def save():
        np.savez(tmp_path / "state.npz", **saved(optimizer))
        weights = {v.name: v.numpy() for v in model}
        np.savez(tmp_path / "weights.npz", **weights)

    save()
    behind = run_on_jax(tmp_path)
    assert behind.returncode != 0 and "optimizer.flush()" in behind.stderr

    optimizer.flush()
    save()
    current = run_on_jax(tmp_path)
    assert current.returncode == 0, current.stderr
    for _ in range(3):
        optimizer.apply([tf.ones(v.shape, tf.float64) for v in model], model)
    optimizer.finalize_variable_values(model)
    continued = np.load(tmp_path / "continued.npz")
    for variable in model:
        np.testing.assert_allclose(
            continued[variable.name], variable.numpy(), rtol=1e-10, atol=1e-13
        )
