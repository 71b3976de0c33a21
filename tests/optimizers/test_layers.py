"""Sparse gradients from real layers, through `fit`."""

import keras
import numpy as np
import pytest
import scipy.sparse
from optimizer_cases import CASES, name_of
from sparse_problem import HEIGHT, WIDTH
from training import distance, values

pytestmark = pytest.mark.tensorflow

LENGTH, BATCH, STEPS = 4, 8, 5


@pytest.fixture(autouse=True)
def policy():
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


def ids():
    rng = np.random.default_rng(0)
    return rng.integers(0, HEIGHT, (BATCH * STEPS, LENGTH)).astype("int32")


def targets():
    return np.random.default_rng(1).normal(size=(BATCH * STEPS, 1)).astype("float32")


def pooled(inputs, table):
    x = keras.layers.GlobalAveragePooling1D()(table)
    outputs = keras.layers.Dense(1, kernel_initializer="ones", dtype="float32")(x)
    return keras.Model(inputs, outputs)


def embedding_model():
    inputs = keras.Input((LENGTH,), dtype="int32")
    return pooled(inputs, keras.layers.Embedding(HEIGHT, WIDTH)(inputs))


def one_hot_model():
    inputs = keras.Input((LENGTH, HEIGHT))
    return pooled(inputs, keras.layers.Dense(WIDTH, use_bias=False)(inputs))


def fitted(model, x, optimizer, **options):
    rng = np.random.default_rng(2)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    model.compile(optimizer, "mse", **options)
    model.fit(x, targets(), batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
    return values(model.trainable_variables)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_embedding_equals_one_hot(case):
    options = {"clipnorm": 0.5, "weight_decay": 0.01, "epsilon": 1e-3}
    got, want = (
        fitted(model, x, case.make(sparse="dense", **options))
        for model, x in (
            (embedding_model(), ids()),
            (one_hot_model(), np.eye(HEIGHT, dtype="float32")[ids()]),
        )
    )
    assert distance(got, want) < 1e-5


@pytest.mark.parametrize("kind", ["mixed_float16", "mixed_bfloat16"])
def test_embedding_equals_one_hot_in_mixed_precision(kind, policy):
    # The matrix product rounds sums to 16 bits, the embedding does not. Gradients
    # are below 1, so Adagrad, whose step is below rate * gradient / sqrt(0.1),
    # carries a difference of one unit and the forward pass's into the weights.
    policy(kind)
    unit = {"mixed_float16": 2.0**-11, "mixed_bfloat16": 2.0**-8}[kind]
    rate, steps = 0.1, 2 * STEPS
    case = next(case for case in CASES if case.name == "adagrad")
    got, want = (
        fitted(model, x, case.make(sparse="dense", learning_rate=rate))
        for model, x in (
            (embedding_model(), ids()),
            (one_hot_model(), np.eye(HEIGHT, dtype="float32")[ids()]),
        )
    )
    assert distance(got, want) < steps * rate / np.sqrt(0.1) * unit


@pytest.mark.slow
@pytest.mark.parametrize("sparse", ["dense", "deferred"])
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_dense_on_sparse_input_equals_dense_input(case, sparse):
    rng = np.random.default_rng(3)
    x = rng.poisson(0.3, (BATCH * STEPS, HEIGHT)).astype("float32")
    x[:, 0] = 1

    def fit(is_sparse):
        inputs = keras.Input((HEIGHT,), sparse=is_sparse)
        hidden = keras.layers.Dense(WIDTH)(inputs)
        return fitted(
            keras.Model(inputs, keras.layers.Dense(1)(hidden)),
            scipy.sparse.csr_matrix(x) if is_sparse else x,
            case.make(sparse=sparse if is_sparse else "dense", epsilon=1e-3),
            jit_compile=False,
        )

    # The forward pass sees rows that have not drifted yet.
    exact = sparse == "dense" or not case.drifts
    assert distance(fit(True), fit(False)) < (1e-5 if exact else 0.05)


def test_a_step_is_sparse_in_these_models():
    optimizer = CASES[0].make(sparse="lazy", use_ema=True)
    fitted(embedding_model(), ids(), optimizer)
    assert (
        0 in optimizer._engine.rows.kept.clocks
    ) and 1 not in optimizer._engine.rows.kept.clocks
