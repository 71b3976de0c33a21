"""A model with a table, and its training on one device or under a strategy."""

import contextlib

import keras
import numpy as np

from keras_adaptive import optimizers

HEIGHT, BATCH, EPOCHS = 50, 16, 3
DENSE = {"sparse": "dense"}
CASES = {
    "Adam": lambda: optimizers.Adam(0.01, **DENSE),
    "AdamW": lambda: optimizers.AdamW(0.01, weight_decay=0.1, **DENSE),
    "clipped": lambda: optimizers.Adam(0.01, global_clipnorm=0.1, **DENSE),
    "average": lambda: optimizers.Adam(0.01, use_ema=True, **DENSE),
    "accumulation": lambda: optimizers.Adam(
        0.01, gradient_accumulation_steps=2, **DENSE
    ),
    "schedule-free": lambda: optimizers.ScheduleFreeAdamW(0.01, **DENSE),
    "Prodigy": lambda: optimizers.Prodigy(),
    "Lamb": lambda: optimizers.Lamb(0.01),
    "Muon": lambda: optimizers.Muon(0.01, **DENSE),
}


def data(seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, HEIGHT, (64, 4))
    return ids, rng.normal(size=(64, 1)).astype("float32")


def build(optimizer):
    """The model; its initial weights are always the same."""
    glorot = keras.initializers.GlorotUniform
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            keras.layers.Embedding(HEIGHT, 8, embeddings_initializer=glorot(1)),
            keras.layers.Flatten(),
            keras.layers.Dense(16, "tanh", kernel_initializer=glorot(2)),
            keras.layers.Dense(1, kernel_initializer=glorot(3)),
        ]
    )
    model.compile(optimizer, "mse")
    return model


def fit(model, epochs=EPOCHS):
    model.fit(*data(), batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0)
    return model.get_weights()


def train(make, scope=contextlib.nullcontext):
    """The weights after training under the scope."""
    with scope():
        model = build(make())
    return fit(model)


def distance(left, right) -> float:
    """The largest difference of any weight."""
    return max(float(np.max(np.abs(a - b))) for a, b in zip(left, right, strict=True))
