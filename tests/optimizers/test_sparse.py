"""A sparse gradient is the gradient of one-hot × matrix, and nothing else."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from optimizer_cases import CASES, name_of
from training import distance, trajectory

from keras_adaptive.optimizers import SAM, SGD

pytestmark = pytest.mark.tensorflow

OPTIONS = {
    "clipnorm": {
        "clipnorm": 0.5,
        "loss_scale_factor": 8.0,
        "gradient_accumulation_steps": 3,
        "use_ema": True,
        "ema_momentum": 0.9,
    },
    "clipvalue": {
        "name": "excluding",
        "clipvalue": 0.3,
        "weight_decay": 0.1,
        "use_ema": True,
        "ema_momentum": 0.9,
        "ema_overwrite_frequency": 5,
    },
    "everything": {
        "name": "excluding",
        "global_clipnorm": 0.7,
        "weight_decay": 0.1,
        "use_ema": True,
        "ema_momentum": 0.9,
        "ema_overwrite_frequency": 2,
        "gradient_accumulation_steps": 3,
        "loss_scale_factor": 8.0,
    },
}


@functools.cache
def reference(case, option, dtype="float64"):
    optimizer = case.make(sparse="dense", **OPTIONS[option])
    return trajectory(optimizer, sparse=False, how="eager", dtype=dtype)


def assert_equal(trajectories, expected, tolerance):
    for step, (got, want) in enumerate(zip(trajectories, expected, strict=True)):
        assert distance(got, want) <= tolerance, f"step {step}"


def equals_one_hot(case, option, how, tolerance=1e-12, dtype="float64"):
    optimizer = case.make(sparse="dense", **OPTIONS[option])
    got = trajectory(optimizer, sparse=True, how=how, dtype=dtype)
    assert_equal(got, reference(case, option, dtype), tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_equals_one_hot_in_graph_mode(case, option):
    equals_one_hot(case, option, "graph")


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_equals_one_hot_eagerly(case):
    equals_one_hot(case, "everything", "eager")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_equals_one_hot_under_xla(case):
    equals_one_hot(case, "everything", "xla")


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_equals_one_hot_in_float32(case):
    equals_one_hot(case, "clipvalue", "eager", 1e-5, "float32")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_equals_one_hot_in_16_bits(case, dtype):
    # The gradients' sums are exact in 16 bits. What is left is float32 rounding in
    # the rule, which may take a weight to the next number of 16 bits at each step.
    unit = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[dtype]
    equals_one_hot(case, "everything", "eager", 4 * unit, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_equals_one_hot_inside_loss_scale_optimizer(case):
    def wrapped(sparse):
        optimizer = keras.optimizers.LossScaleOptimizer(
            case.make(sparse="dense", clipnorm=0.5, weight_decay=0.1),
            initial_scale=64.0,
            dynamic_growth_steps=4,
        )
        how = "graph" if sparse else "eager"
        return trajectory(optimizer, sparse, how, dtype="float32")

    assert_equal(wrapped(True), wrapped(False), 1e-5)


@pytest.mark.parametrize("kind", [tuple, list])
@pytest.mark.parametrize("wrap", [lambda o: o, SAM], ids=["plain", "sam"])
def test_ids_may_be_a_tuple_or_a_list(kind, wrap):
    """As in Keras."""
    table = keras.Variable(np.ones((4, 2), "float32"))
    optimizer = wrap(SGD(1.0))
    for _ in range(2):  # SAM takes a step in two calls.
        gradient = tf.IndexedSlices(tf.ones((2, 2)), kind((0, 2)), (4, 2))
        optimizer.apply([gradient], [table])
    steps = 1 if isinstance(optimizer, SAM) else 2
    np.testing.assert_allclose(table.numpy()[:, 0], [1 - steps, 1, 1 - steps, 1])
