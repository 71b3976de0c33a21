"""Deferred and dense updates end at the same weights, after whole trainings."""

import functools

import keras
import numpy as np
import pytest
from compared_models import distance
from keras import ops

import keras_adaptive
from keras_adaptive import optimizers

pytestmark = pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="JAX's gradients are dense"
)

BATCH_SIZE, LENGTH, EPOCHS = 32, 20, 3
SHORT, LONG = (600, 150), (3000, 1500)
"""Features and steps."""

CASES = {
    "Adam": lambda steps, **o: optimizers.Adam(0.01, **o),
    "AdamW, cosine": lambda steps, **o: optimizers.AdamW(
        keras.optimizers.schedules.CosineDecay(0.02, steps), weight_decay=0.05, **o
    ),
    "AMSGrad": lambda steps, **o: optimizers.Adam(0.01, amsgrad=True, **o),
    "RMSprop, momentum": lambda steps, **o: optimizers.RMSprop(
        0.003, momentum=0.9, **o
    ),
    "Nadam": lambda steps, **o: optimizers.Nadam(0.01, **o),
    "Adamax": lambda steps, **o: optimizers.Adamax(0.01, **o),
    "RAdam": lambda steps, **o: optimizers.RAdam(0.01, **o),
    "Yogi": lambda steps, **o: optimizers.Yogi(0.03, **o),
    "Lion": lambda steps, **o: optimizers.Lion(0.001, **o),
    "SGD, momentum": lambda steps, **o: optimizers.SGD(0.1, momentum=0.9, **o),
    "average": lambda steps, **o: optimizers.Adam(0.01, use_ema=True, **o),
}


@pytest.fixture(autouse=True)
def by_row(monkeypatch):
    """Tables as small as these would otherwise be updated whole."""
    from keras_adaptive.optimizers.engine.sparse import row_updates

    monkeypatch.setattr(row_updates, "SMALL_TABLE", 0)
    monkeypatch.setattr(row_updates, "ROWS_PER_ID", 0)


def logistic_regression(features, dtype):
    return [
        keras_adaptive.layers.Embedding(features, 1, dtype=dtype),
        keras.layers.Lambda(lambda x: ops.sum(x, axis=1), dtype=dtype),
        keras.layers.Activation("sigmoid", dtype=dtype),
    ]


def two_layers(features, dtype):
    return [
        keras_adaptive.layers.Embedding(features, 8, dtype=dtype),
        keras.layers.GlobalAveragePooling1D(dtype=dtype),
        keras.layers.Dense(16, "tanh", dtype=dtype),
        keras.layers.Dense(1, "sigmoid", dtype=dtype),
    ]


@functools.cache
def texts(features, steps):
    """Ids by Zipf's law, labels by a weight of each feature, and noise."""
    rng = np.random.default_rng(0)
    chances = 1 / np.arange(1, features + 1)
    shape = (BATCH_SIZE * (steps // EPOCHS), LENGTH)
    ids = rng.choice(features, shape, p=chances / chances.sum())
    truth = rng.normal(size=features)
    labels = truth[ids].sum(-1) + rng.logistic(size=len(ids)) > 0
    return ids, labels[:, None].astype("float64")


def trained(layers, make, size, dtype="float64", **options):
    """Returns the weights after training, and the losses of each epoch."""
    features, steps = size
    ids, labels = texts(features, steps)
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((LENGTH,), dtype="int32"), *layers(features, dtype)]
    )
    model.compile(make(steps, **options), "binary_crossentropy")
    history = model.fit(
        ids,
        labels,
        batch_size=BATCH_SIZE,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        validation_data=(ids[::7], labels[::7]),
    )
    weights = [ops.convert_to_numpy(v).astype("float64") for v in model.weights]
    return weights, history.history


def differences(layers, make, size, dtype="float64"):
    """Returns those of the weights, and of the losses."""
    (got, losses), (want, wanted) = (
        trained(layers, make, size, dtype, sparse=mode)
        for mode in ("deferred", "dense")
    )
    names = ("loss", "val_loss")
    return distance(got, want), distance(
        [np.array(losses[n]) for n in names], [np.array(wanted[n]) for n in names]
    )


BY_ROUNDING = ("RMSprop, momentum", "Lion", "SGD, momentum")
"""Their skipped steps are exact. The others' are but for the third order of ε."""


SHOWN = ("Adam", "Nadam")
"""Their cases run in daily work, too."""


@pytest.mark.parametrize("layers", [logistic_regression, two_layers])
@pytest.mark.parametrize("case", SHOWN)
def test_deferred_is_dense(case, layers):
    weights, losses = differences(layers, CASES[case], SHORT)
    assert weights < 1e-6
    assert losses < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("layers", [logistic_regression, two_layers])
@pytest.mark.parametrize("case", [case for case in CASES if case not in SHOWN])
def test_deferred_is_dense_with_every_optimizer(case, layers):
    weights, losses = differences(layers, CASES[case], SHORT)
    assert weights < (1e-12 if case in BY_ROUNDING else 1e-5)
    assert losses < 1e-6


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("case", "layers"), [("Adam", logistic_regression), ("Nadam", two_layers)]
)
def test_deferred_is_dense_for_1500_steps(case, layers):
    """Even rounding ends 1e-7 apart: two trainings that begin 1e-15 apart do so."""
    weights, losses = differences(layers, CASES[case], LONG)
    assert weights < 1e-5
    assert losses < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("case", ["Adam", "average"])
def test_deferred_is_dense_in_float32(case):
    weights, losses = differences(logistic_regression, CASES[case], SHORT, "float32")
    assert weights < 1e-4
    assert losses < 1e-5
