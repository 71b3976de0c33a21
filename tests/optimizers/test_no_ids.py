"""A batch without a single id for a table: only what time changes, changes there."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from optimizer_cases import MODES
from sparse_problem import HEIGHT, WIDTH

from keras_adaptive import optimizers
from keras_adaptive.layers import SparseDense

pytestmark = pytest.mark.tensorflow

EMPTY = (2, 3)
OPTIONS = {
    "plain": {},
    "accumulation": {"gradient_accumulation_steps": 2},
    "average": {"use_ema": True, "ema_momentum": 0.75},
    "clipping": {"global_clipnorm": 0.5},
    "decay": {"weight_decay": 0.1},
}


def trajectory(optimizer, how, sparse=True):
    """Steps of a table and a bias; the table has no ids in the steps of `EMPTY`."""
    start = np.linspace(-1, 1, HEIGHT * WIDTH, dtype="float32")
    table = keras.Variable(start.reshape(HEIGHT, WIDTH), name="table")
    bias = keras.Variable(np.ones(3, "float32"))
    optimizer.build([table, bias])

    def step(ids, values):
        shape = tf.constant([HEIGHT, WIDTH])
        gradient = tf.IndexedSlices(values, ids, shape)
        if not sparse:
            gradient = tf.scatter_nd(ids[:, None], values, shape)
        optimizer.apply([gradient, tf.ones(3) / 8], [table, bias])

    if how == "graph":
        signature = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, WIDTH])
        step = tf.function(step, input_signature=signature, autograph=False)
    elif how == "xla":
        step = tf.function(step, jit_compile=True, autograph=False)
    for i in range(6):
        ids = tf.constant([] if i in EMPTY else [1, 5, 1, i], tf.int32)
        step(ids, tf.ones([len(ids), WIDTH]) / 4)
    if hasattr(optimizer, "flush"):
        optimizer.flush()
    return table.numpy(), bias.numpy()


def assert_close(got, want, rtol=1e-5):
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=rtol, atol=1e-6)


HOW = [(options, "graph") for options in OPTIONS]
HOW += [("plain", "eager"), ("plain", "xla"), ("accumulation", "xla")]


@pytest.mark.parametrize(("options", "how"), HOW)
@pytest.mark.parametrize("mode", ["deferred", "lazy", "dense"])
@pytest.mark.parametrize("small", [False, True])
def test_adagrad_is_keras_own(options, mode, how, small, request):
    """Its rows stand still without a gradient, but for decay and average."""
    if not small:
        request.getfixturevalue("by_row")
    options = OPTIONS[options]
    want = trajectory(keras.optimizers.Adagrad(0.125, **options), "eager", sparse=False)
    got = trajectory(optimizers.Adagrad(0.125, sparse=mode, **options), how)
    if mode == "lazy" and "weight_decay" in options:
        # Lazily, only rows with a gradient decay.
        want = trajectory(optimizers.Adagrad(0.125, sparse=mode, **options), "eager")
    assert_close(got, want)


@pytest.mark.slow
@pytest.mark.usefixtures("by_row")
@pytest.mark.parametrize(("case", "mode"), MODES, ids=str)
def test_every_optimizer(case, mode):
    got = trajectory(case.make(sparse=mode), "graph")
    assert all(np.isfinite(array).all() for array in got)
    if mode != "lazy":
        want = trajectory(case.make(sparse="dense"), "eager", sparse=False)
        assert_close(got, want, rtol=2e-3)


def test_lazy_rows_stand_still():
    optimizer = optimizers.Adam(0.125, sparse="lazy")
    table = keras.Variable(np.ones((40_000, 1)))
    shape = tf.constant([40_000, 1])
    optimizer.build([table])
    for ids in ([3], [], []):
        before = table.numpy()
        values = tf.ones([len(ids), 1])
        optimizer.apply([tf.IndexedSlices(values, tf.constant(ids, tf.int64), shape)])
        assert np.flatnonzero(table.numpy() - before).tolist() == ids


@pytest.mark.parametrize("wrap", ["SAM", "Lookahead", "Mechanic"])
def test_wrappers(wrap):
    make = getattr(optimizers, wrap)
    want = trajectory(make(optimizers.Adagrad(0.125)), "eager", sparse=False)
    got = trajectory(make(optimizers.Adagrad(0.125)), "graph")
    assert_close(got, want)


@pytest.mark.parametrize("height", [20, 20_000])
def test_ragged_tags(height):
    """A recommender whose batch has no tags trains its other inputs."""

    def losses(optimizer):
        keras.utils.set_random_seed(0)
        embedding = keras.layers.Embedding(height, 2)
        dense = keras.layers.Dense(1)
        embedding.build(None), dense.build((None, 3))
        found = []
        for tags in ([[1], [4], []], [[], [], []], [[4], [], [1]]):
            ragged = tf.ragged.constant(tags, dtype=tf.int32, row_splits_dtype="int32")
            with tf.GradientTape() as tape:
                rows = embedding(ragged.values)
                bag = tf.math.unsorted_segment_sum(rows, ragged.value_rowids(), 3)
                inputs = tf.concat([bag, tf.constant([[1.0], [2.0], [3.0]])], axis=1)
                loss = tf.reduce_mean((dense(inputs) - 1) ** 2)
            variables = embedding.trainable_variables + dense.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)
            found.append(float(loss))
        return found

    want = losses(keras.optimizers.Adagrad(0.1))
    assert_close([losses(optimizers.Adagrad(0.1))], [want])
    assert want[1] < want[0]


@pytest.mark.parametrize("units", [3, 400])
def test_sparse_dense_of_unknown_words(units):
    def losses(layer, optimizer):
        glorot = keras.initializers.GlorotUniform(seed=1)
        inputs = keras.Input((5000,), sparse=True)
        hidden = layer(units, kernel_initializer=glorot, bias_initializer="ones")
        model = keras.Model(inputs, hidden(inputs))
        model.compile(optimizer, "mse", jit_compile=False)
        found = []
        for words in ([[0, 7], [1, 9]], np.zeros((0, 2)), [[0, 7]]):
            x = tf.SparseTensor(np.array(words, "int64"), [1.0] * len(words), (2, 5000))
            found.append(float(model.train_on_batch(x, np.zeros((2, units)))))
        return found

    want = losses(keras.layers.Dense, keras.optimizers.Adagrad(0.1))
    assert_close([losses(SparseDense, optimizers.Adagrad(0.1))], [want], rtol=1e-4)
