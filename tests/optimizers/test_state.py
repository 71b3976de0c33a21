"""State that follows its variable: freezing, thawing, heads, files, by hand."""

import warnings

import keras
import numpy as np
import pytest
from optimizer_cases import third_on_jax

from keras_adaptive import optimizers
from keras_adaptive.optimizers.engine import identity
from keras_adaptive.optimizers.engine.identity import Identity

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 4)).astype("float32")
Y = RNG.normal(size=(16, 4)).astype("float32")
FILE = "model.weights.h5"

OPTIMIZERS = {
    "adam": lambda: optimizers.Adam(0.01),
    "average": lambda: optimizers.Adam(0.01, use_ema=True),
    "accumulation": lambda: optimizers.Adam(0.01, gradient_accumulation_steps=3),
    "schedule-free": lambda: optimizers.ScheduleFreeAdamW(0.01),
    "soap": lambda: optimizers.SOAP(0.01),
    "ftrl": lambda: optimizers.Ftrl(0.01),
    "prodigy": lambda: optimizers.Prodigy(),
    "lookahead": lambda: optimizers.Lookahead(optimizers.Adam(0.01)),
    "sam": lambda: optimizers.SAM(optimizers.SGD(0.01, momentum=0.9)),
    "mechanic": lambda: optimizers.Mechanic(optimizers.SGD(0.01, momentum=0.9)),
    "of-keras": lambda: optimizers.Lookahead(keras.optimizers.Adam(0.01)),
}
every = pytest.mark.parametrize("kind", third_on_jax(OPTIMIZERS))


def model_of(optimizer, trained=(True, True, True), head=4, names=None):
    layers = [
        keras.layers.Dense(
            units,
            kernel_initializer=keras.initializers.GlorotUniform(seed=i),
            name=names and names[i],
        )
        for i, units in enumerate((4, 4, head))
    ]
    model = keras.Sequential([keras.Input((4,)), *layers])
    for layer, trainable in zip(layers, trained, strict=True):
        layer.trainable = trainable
    model.compile(optimizer, keras.losses.MeanSquaredError())
    return model


def fit(model):
    y = Y[:, : model.output_shape[-1]]
    model.fit(X, y, batch_size=4, shuffle=False, verbose=0)


def slot(model, name, layer):
    kernel, optimizer = model.layers[layer].kernel, model.optimizer
    place = [v is kernel for v in optimizer._trainable_variables].index(True)
    return optimizer.get_state()[f"{name}:{place}"]


def assert_same_weights(got, want):
    for g, w in zip(got.get_weights(), want.get_weights(), strict=True):
        np.testing.assert_array_equal(g, w)


# Layers that are frozen and thawed.

NAMES = {"made-up": None, "given": ("one", "two", "three")}


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((False, True, True), (True, True, False)),
        ((False, True, True), (True, True, True)),
        ((True, True, True), (False, False, True)),
        ((False, True, False), (True, True, False)),
    ],
)
def test_state_stays_with_its_layer(before, after, names, built, tmp_path):
    first = model_of(optimizers.Adam(0.1), before, names=NAMES[names])
    fit(first)
    first.save_weights(tmp_path / FILE)
    second = model_of(optimizers.Adam(0.001), after, names=NAMES[names])
    if built:
        second.optimizer.build(second.trainable_variables)
    with pytest.warns(UserWarning, match="started anew"):
        second.load_weights(tmp_path / FILE)
        second.optimizer.build(second.trainable_variables)
    for layer in np.flatnonzero(after):
        got = slot(second, "momentum", layer)
        want = slot(first, "momentum", layer) if before[layer] else np.zeros((4, 4))
        np.testing.assert_array_equal(got, want)


def test_another_layer_of_the_same_shape_gets_no_state(tmp_path):
    first = model_of(optimizers.Adam(0.1), (False, True, False))
    fit(first)
    first.save_weights(tmp_path / FILE)
    second = model_of(optimizers.Adam(0.1), (True, False, False))
    with pytest.warns(UserWarning, match="New, and started anew: momentum"):
        second.load_weights(tmp_path / FILE)
        second.optimizer.build(second.trainable_variables)
    assert not slot(second, "momentum", 0).any()


def test_a_head_of_another_shape(tmp_path):
    first = model_of(optimizers.Adam(0.1), names=NAMES["given"])
    fit(first)
    first.save_weights(tmp_path / FILE)
    second = model_of(optimizers.Adam(0.1), head=2, names=NAMES["given"])
    second.optimizer.build(second.trainable_variables)
    with pytest.raises(ValueError, match="could not be loaded"):
        second.load_weights(tmp_path / FILE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        second.load_weights(tmp_path / FILE, skip_mismatch=True)
    want = slot(first, "momentum", 0)
    np.testing.assert_array_equal(slot(second, "momentum", 0), want)
    assert not slot(second, "momentum", 2).any()
    fit(second)


def test_variables_are_told_by_values_before_paths():
    def kernel(number, digest):
        return Identity(f"dense_{number}/kernel", (2, 2), digest)

    saved = [kernel(1, "a"), kernel(2, "b")]
    now = [kernel(2, "z"), kernel(3, "a")]
    assert identity.match(saved, now) == {0: 1}
    assert identity.match(saved, [kernel(1, "x"), kernel(2, "y")]) == {0: 0, 1: 1}
    assert identity.match(saved, [kernel(5, "b"), kernel(6, "a")]) == {0: 1, 1: 0}


# The learning rate, and states of other optimizers.


def test_an_optimizer_that_is_not_built_keeps_its_learning_rate(tmp_path):
    first = model_of(optimizers.Adam(0.1))
    fit(first)
    first.save_weights(tmp_path / FILE)
    for rate in (None, 0.002):
        second = model_of(optimizers.Adam(0.001))
        second.load_weights(tmp_path / FILE)
        if rate:
            second.optimizer.learning_rate = rate
        fit(second)
        kept = float(keras.ops.convert_to_numpy(second.optimizer.learning_rate))
        assert kept == pytest.approx(rate or 0.001)


@pytest.mark.parametrize("writer", [optimizers.SGD, keras.optimizers.SGD])
def test_another_optimizers_state_is_refused_by_load_weights(writer, tmp_path):
    first = model_of(writer(0.1, momentum=0.9))
    fit(first)
    first.save_weights(tmp_path / FILE)
    second = model_of(optimizers.RMSprop(0.1))
    with pytest.raises(ValueError, match="objects_to_skip"):
        second.load_weights(tmp_path / FILE)
    second.load_weights(tmp_path / FILE, objects_to_skip=[second.optimizer])
    assert_same_weights(second, first)
    fit(second)


@pytest.mark.parametrize("options", [{}, {"use_ema": True}, {"amsgrad": True}])
def test_the_state_of_keras_adam_goes_on_in_ours(options, tmp_path):
    if keras.backend.backend() == "jax" and "use_ema" in options:
        pytest.skip("a second fit of Keras's Adam donates one buffer twice on JAX")
    first = model_of(keras.optimizers.Adam(0.01, **options))
    fit(first)
    first.save_weights(tmp_path / FILE)
    second = model_of(optimizers.Adam(0.01, **options))
    second.load_weights(tmp_path / FILE)
    fit(first)
    fit(second)
    for got, want in zip(second.get_weights(), first.get_weights(), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


# Files of whole models, and names.


@every
def test_a_whole_model_goes_on(kind, tmp_path):
    """Compiled; `test_lifecycle.py` has all classes and formats, without `fit`."""
    model = model_of(OPTIMIZERS[kind]())
    fit(model)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    fit(model)
    fit(again)
    assert_same_weights(again, model)


# By hand.


@every
def test_state_is_named_put_back_and_reset(kind):
    model = model_of(OPTIMIZERS[kind](), names=NAMES["given"])
    fit(model)
    paths = [variable.path for variable in model.optimizer.variables]
    assert len(set(paths)) == len(paths)
    assert all(any(name in path for path in paths) for name in NAMES["given"])

    model.set_state_tree(model.get_state_tree(value_format="numpy_array"))
    state, weights = model.optimizer.get_state(), model.get_weights()
    fit(model)
    want = model.get_weights()
    model.set_weights(weights)
    model.optimizer.set_state(state)
    fit(model)
    for got, wanted in zip(model.get_weights(), want, strict=True):
        np.testing.assert_array_equal(got, wanted)

    model.optimizer.reset_state()
    fresh = model_of(OPTIMIZERS[kind]())
    fresh.set_weights(model.get_weights())
    fit(model)
    fit(fresh)
    assert_same_weights(model, fresh)


# Clocks of rows.


@pytest.mark.tensorflow
@pytest.mark.parametrize("after", [0, 10**6])
def test_rows_do_not_depend_on_iterations(after, by_row):
    import tensorflow as tf

    def trained(mode):
        table = keras.Variable(np.ones((50, 1)), dtype="float64", name="table")
        optimizer = optimizers.Adam(0.1, sparse=mode, use_ema=True)

        def call(row):
            gradient = tf.IndexedSlices(
                tf.ones((1, 1), "float64"), tf.constant([row]), [50, 1]
            )
            optimizer.apply([gradient], [table])

        for row in [0] + [1] * 49:
            call(row)
        optimizer.iterations.assign(after)
        call(1)
        call(0)
        optimizer.flush()
        return table.numpy(), optimizer.get_state()["average:0"]

    for got, want in zip(trained("deferred"), trained("dense"), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4)
