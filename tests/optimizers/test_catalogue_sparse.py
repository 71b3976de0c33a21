"""Every class of the catalogue on TensorFlow: graphs, XLA, and sparse gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from optimizer_cases import EVERY, name_of
from test_deferred import trajectory

pytestmark = pytest.mark.tensorflow

HEIGHT, WIDTH, STEPS = 6, 3, 5

every = pytest.mark.parametrize("case", EVERY, ids=name_of)
modes = pytest.mark.parametrize(
    ("case", "mode"),
    [(case, mode) for case in EVERY for mode in case.modes],
    ids=name_of,
)


def variables():
    rng = np.random.default_rng(0)
    shapes = {"table": (HEIGHT, WIDTH), "bias": (WIDTH,)}
    return [
        keras.Variable(rng.normal(size=shape), dtype="float64", name=name)
        for name, shape in shapes.items()
    ]


def batches():
    rng = np.random.default_rng(1)
    return [
        (rng.permutation(HEIGHT), rng.normal(size=(HEIGHT, WIDTH)))
        for _ in range(STEPS)
    ]


def trained(optimizer, sparse, how="eager"):
    model, traces = variables(), []

    def step(ids, values):
        traces.append(None)
        gradient = tf.IndexedSlices(values, ids, tf.constant([HEIGHT, WIDTH]))
        if not sparse:
            gradient = tf.scatter_nd(ids[:, None], values, (HEIGHT, WIDTH))
        optimizer.apply([gradient, tf.reduce_sum(values, axis=0)], model)

    if how != "eager":
        step = tf.function(step, autograph=False, jit_compile=how == "xla")
    for number, (ids, values) in enumerate(batches()):
        step(tf.constant(ids), tf.constant(values))
        # TensorFlow traces a function that makes variables twice.
        assert how == "eager" or number < 2 or len(traces) <= 2
    optimizer.finalize_variable_values(model)
    return [v.numpy() for v in model]


def assert_close(got, want, tolerance):
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["graph", "xla"])
@every
def test_graph_and_xla_equal_eager(case, how):
    """And they are not traced again after the second step."""
    want = trained(case.make(weight_decay=0.125), sparse=False)
    got = trained(case.make(weight_decay=0.125), sparse=False, how=how)
    assert_close(got, want, 1e-6)


@pytest.mark.slow
@modes
def test_sparse_gradient_of_all_rows_is_the_dense_gradient(case, mode):
    want = trained(case.make(sparse="dense"), sparse=False)
    assert_close(trained(case.make(sparse=mode), sparse=True, how="graph"), want, 1e-9)


@pytest.mark.parametrize(
    "case", [case for case in EVERY if "deferred" in case.modes], ids=name_of
)
def test_deferred_ends_where_dense_does(case):
    got = trajectory(case.make(sparse="deferred"), steps=20)[-1]
    want = trajectory(case.make(sparse="dense"), "eager", steps=20)[-1]
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)
