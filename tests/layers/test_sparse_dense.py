"""`SparseDense` is `Dense`, faster."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import sparse

from keras_adaptive.layers import SparseDense
from keras_adaptive.optimizers import Adam
from keras_adaptive.optimizers.engine.tensorflow import csr_products as sparse_products

pytestmark = pytest.mark.tensorflow

FEATURES, UNITS = 4999, 3
CLASSES = {"Dense": keras.layers.Dense, "SparseDense": SparseDense}


@pytest.fixture(params=[0, 2**17], ids=["compressed", "coordinates"], autouse=True)
def way(request, monkeypatch):
    monkeypatch.setattr(sparse_products, "MANY", request.param)


def words(rows=12, seed=0):
    """Bags of words; the last has none."""
    rng = np.random.default_rng(seed)
    x = sparse.random(rows, FEATURES, 0.002, "csr", "float32", rng)
    x[-1] = 0
    x.eliminate_zeros()
    return x


def tensor(x):
    x = x.tocoo()
    indices = np.stack([x.row, x.col], axis=1)
    return tf.sparse.reorder(tf.SparseTensor(indices, x.data, x.shape))


def layer(cls, **options):
    glorot = keras.initializers.GlorotUniform(seed=1)
    made = cls(UNITS, kernel_initializer=glorot, bias_initializer="ones", **options)
    made.build((None, FEATURES))
    return made


def model(cls, optimizer):
    inputs = keras.Input((FEATURES,), sparse=True)
    hidden = layer(cls, activation="relu")(inputs)
    head = keras.layers.Dense(1, kernel_initializer="ones")
    made = keras.Model(inputs, head(hidden))
    made.compile(optimizer, "mse", jit_compile=False)
    return made


@pytest.mark.parametrize("options", [{}, {"use_bias": False}, {"activation": "tanh"}])
def test_the_outputs_of_dense(options):
    want, got = (layer(cls, **options)(tensor(words())) for cls in CLASSES.values())
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)
    assert got.shape == want.shape


def test_dense_inputs_are_left_to_dense():
    x = words().toarray()
    want, got = (layer(cls)(x) for cls in CLASSES.values())
    np.testing.assert_array_equal(got, want)


def test_each_row_of_the_gradient_once():
    made, x = layer(SparseDense), tensor(words())
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(made(x) ** 2)
    gradient = tape.gradient(loss, made._kernel.value)
    ids = gradient.indices.numpy()
    assert len(set(ids)) == len(ids)
    dense = layer(keras.layers.Dense)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(dense(words().toarray()) ** 2)
    want = tape.gradient(loss, dense.kernel.value)
    got = tf.convert_to_tensor(gradient)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_the_gradient_of_the_input():
    x, made = tensor(words()), layer(SparseDense)

    def slope(values):
        with tf.GradientTape() as tape:
            tape.watch(values)
            loss = tf.reduce_sum(made(x.with_values(values)) ** 2)
        return tape.gradient(loss, values)

    with tf.GradientTape() as tape:
        dense = tf.convert_to_tensor(words().toarray())
        tape.watch(dense)
        loss = tf.reduce_sum(layer(keras.layers.Dense)(dense) ** 2)
    want = tf.gather_nd(tape.gradient(loss, dense), x.indices)
    np.testing.assert_allclose(slope(x.values), want, rtol=1e-5, atol=1e-6)


def test_rows_out_of_order_are_an_error():
    x = tensor(words())
    backwards = tf.SparseTensor(x.indices[::-1], x.values[::-1], x.dense_shape)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"tf\.sparse\.reorder"):
        layer(SparseDense)(backwards)


@pytest.mark.slow
@pytest.mark.parametrize("make", [Adam, keras.optimizers.Adam])
def test_fit_is_that_of_dense(make):
    x, y = words(40), np.linspace(-1, 1, 40, dtype="float32")
    weights = []
    for cls in CLASSES.values():
        made = model(cls, make(0.01))
        made.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        weights.append(made.get_weights())
    for want, got in zip(*weights, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_no_operation_is_as_large_as_the_kernel():
    made = layer(SparseDense)

    def gradient(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(made(x))
        return tape.gradient(loss, made._kernel.value)

    spec = tf.SparseTensorSpec([None, FEATURES])
    graph = tf.function(gradient).get_concrete_function(spec).graph
    large = {
        op.type
        for op in graph.get_operations()
        for t in op.outputs
        if t.consumers() and FEATURES in (t.shape if t.shape.rank else ())
    }
    copy_nothing = {"ReadVariableOp", "Identity", "IdentityN"}
    assert {"ReadVariableOp"} <= large <= copy_nothing


def test_a_step_looks_for_equal_words_once(by_row):
    made, optimizer = layer(SparseDense), Adam()

    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(made(x))
        kernel = made._kernel
        optimizer.apply([tape.gradient(loss, kernel.value)], [kernel])

    spec = tf.SparseTensorSpec([None, FEATURES])
    graph = tf.function(step).get_concrete_function(spec).graph
    kinds = [op.type for op in graph.get_operations()]
    assert kinds.count("Unique") == 1


def test_only_the_gradient_needs_equal_words():
    spec = tf.SparseTensorSpec([None, FEATURES])
    graph = tf.function(layer(SparseDense)).get_concrete_function(spec).graph
    assert "Unique" not in {op.type for op in graph.get_operations()}


def test_the_kernel_is_read_without_a_copy_after_a_scatter():
    made, sgd = layer(SparseDense), keras.optimizers.SGD()

    @tf.function(autograph=False)
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(made(x))
        kernel = made._kernel
        sgd.apply([tape.gradient(loss, kernel.value)], [kernel])

    graph = step.get_concrete_function(tf.SparseTensorSpec([None, FEATURES])).graph
    (read,) = [
        op
        for op in graph.get_operations()
        if op.type == "ReadVariableOp" and op.outputs[0].shape == (FEATURES, UNITS)
    ]
    assert [op.type for op in read.control_inputs] == ["DisableCopyOnRead"]


@pytest.mark.parametrize("optimizer", [Adam, keras.optimizers.SGD])
def test_a_step_copies_no_kernel(optimizer):
    features = 50_000
    made = SparseDense(UNITS)
    made.build((None, features))
    kernel, optimizer = made._kernel, optimizer()
    optimizer.build([kernel])

    @tf.function(autograph=False)
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(made(x))
        optimizer.apply([tape.gradient(loss, kernel.value)], [kernel])

    def memory():
        return tf.config.experimental.get_memory_info("CPU:0")

    x = tensor(words())
    x = tf.SparseTensor(x.indices, x.values, [x.shape[0], features])
    for _ in range(3):
        step(x)
    tf.config.experimental.reset_memory_stats("CPU:0")
    before = memory()["current"]
    step(x)
    assert memory()["peak"] - before < features * UNITS * 4 / 2


def test_it_is_called_in_the_scope_of_a_strategy():
    x = tensor(words())
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        got = layer(SparseDense)(x)
    np.testing.assert_array_equal(got, layer(SparseDense)(x))


def test_words_out_of_range_are_an_error():
    x = tensor(words())
    outside = tf.SparseTensor(x.indices + [[0, FEATURES]], x.values, x.dense_shape)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"indices\["):
        layer(SparseDense)(outside)


def test_saved_and_loaded(tmp_path):
    made = model(SparseDense, "sgd")
    made.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(again.layers[1], SparseDense)
    np.testing.assert_array_equal(
        again.predict(words(), verbose=0), made.predict(words(), verbose=0)
    )


def test_mixed_precision_reads_the_kernel_by_row():
    """`Dense` casts all of it first, and rounds every entry on the way."""
    want, got = (
        layer(cls, dtype="mixed_float16")(tensor(words())) for cls in CLASSES.values()
    )
    assert got.dtype == "float16"
    np.testing.assert_allclose(got, want, rtol=2e-3, atol=1e-3)
    made = layer(SparseDense, dtype="mixed_float16")
    spec = tf.SparseTensorSpec([None, FEATURES])
    graph = tf.function(made).get_concrete_function(spec).graph
    casts = [op for op in graph.get_operations() if op.type == "Cast"]
    assert casts
    assert all(FEATURES not in (op.outputs[0].shape or ()) for op in casts)
