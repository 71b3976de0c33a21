"""Models that are built by their first training step, or in any other common way."""

import keras
import numpy as np
import pytest
from optimizer_cases import third_on_jax

from keras_adaptive import optimizers

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"

X = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
Y = np.random.default_rng(1).normal(size=(12, 1)).astype("float32")

AROUND_SGD = {"optimizer": "sgd"}
STARTS_AT_WEIGHTS = {
    "ScheduleFreeSGD": {"learning_rate": 0.1},
    "ScheduleFreeAdamW": {"learning_rate": 0.1},
    "ScheduleFreeRAdam": {"learning_rate": 0.1, "silent_sgd_phase": False},
    "Prodigy": {"d0": 0.01},
    "DoG": {"reps_rel": 0.01},
    "LDoG": {"reps_rel": 0.01},
    "DoWG": {},
    "COCOB": {},
    "Lookahead": {**AROUND_SGD, "sync_period": 2},
    "Mechanic": {**AROUND_SGD, "s_init": 0.1},
    "SAM": AROUND_SGD,
}
OTHERS = {"Adam": {"use_ema": True, "ema_momentum": 0.5}, "SOAP": {}, "Muon": {}}


def layers():
    return [
        keras.layers.Dense(8, activation="tanh", kernel_initializer=glorot(1)),
        keras.layers.Dense(8, activation="tanh", kernel_initializer=glorot(2)),
        keras.layers.Dense(1, kernel_initializer=glorot(3)),
    ]


def glorot(seed):
    return keras.initializers.GlorotUniform(seed=seed)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.parts = layers()

    def build(self, input_shape):
        for part in self.parts:
            part.build(input_shape)
            input_shape = part.compute_output_shape(input_shape)

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return x


class BuiltByItsCall(Subclassed):
    build = keras.Model.build


def with_input():
    return keras.Sequential([keras.Input((4,)), *layers()])


def without_input():
    return keras.Sequential(layers())


def nested():
    first, *rest = layers()
    return keras.Sequential([keras.Sequential([first]), keras.Sequential(rest)])


def functional():
    inputs = x = keras.Input((4,))
    for layer in layers():
        x = layer(x)
    return keras.Model(inputs, x)


def built_later():
    model = without_input()
    model.build((None, 4))
    return model


def subclass_built():
    model = Subclassed()
    model.build((None, 4))
    return model


WAYS = [
    without_input,
    nested,
    functional,
    built_later,
    Subclassed,
    BuiltByItsCall,
    subclass_built,
]


def fit(model, **options):
    model.compile(options.pop("optimizer"), "mse", **options)
    model.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0)


def train_on_batch(model, optimizer):
    model.compile(optimizer, "mse")
    for _ in range(2):
        for start in (0, 4, 8):
            model.train_on_batch(X[start : start + 4], Y[start : start + 4])
    optimizer.finalize_variable_values(model.trainable_variables)


def compiled_by_xla(model, optimizer):
    fit(model, optimizer=optimizer, jit_compile=True)


def not_compiled_by_xla(model, optimizer):
    fit(model, optimizer=optimizer, jit_compile=False)


def own_function(model, optimizer):
    import tensorflow as tf

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)

    for _ in range(2):
        for start in (0, 4, 8):
            step(tf.constant(X[start : start + 4]), tf.constant(Y[start : start + 4]))
    optimizer.finalize_variable_values(model.trainable_variables)


HOW = [not_compiled_by_xla, train_on_batch]
if ON_TENSORFLOW:
    HOW += [compiled_by_xla, own_function]


def trained(name, make_model, how):
    arguments = {**STARTS_AT_WEIGHTS, **OTHERS}[name]
    model = make_model()
    how(model, getattr(optimizers, name)(**arguments))
    return [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]


def assert_same(name, make_model, how):
    expected = trained(name, with_input, not_compiled_by_xla)
    values = trained(name, make_model, how)
    for value, right in zip(values, expected, strict=True):
        np.testing.assert_allclose(value, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["ScheduleFreeSGD", "Prodigy", "LDoG", "Mechanic"])
def test_sequential_without_input(name):
    assert_same(name, without_input, not_compiled_by_xla)


@pytest.mark.slow
@pytest.mark.parametrize("make_model", WAYS)
def test_ways_to_make_a_model(make_model):
    for name in ("ScheduleFreeSGD", "Mechanic"):
        assert_same(name, make_model, train_on_batch)


@pytest.mark.parametrize("how", HOW[2:])
def test_ways_to_train(how):
    assert_same("DoG", without_input, how)


@pytest.mark.slow
@pytest.mark.parametrize("name", third_on_jax([*STARTS_AT_WEIGHTS, *OTHERS]))
def test_every_class(name):
    # Each class in another way to make a model and to train it.
    place = [*STARTS_AT_WEIGHTS, *OTHERS].index(name)
    assert_same(name, WAYS[place % len(WAYS)], HOW[place % len(HOW)])
