"""A workload on plain arrays, for runs in other processes, which import this module."""

import keras

from keras_adaptive.study import Epochs, Workload


def dense_model(seed):
    glorot = keras.initializers.GlorotUniform(seed=seed)
    return keras.Sequential(
        [keras.Input((40,)), keras.layers.Dense(2, kernel_initializer=glorot)]
    )


def raises(seed):
    raise MemoryError("too large")


def dense_workload(data):
    return Workload(
        "dense",
        dense_model,
        data,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch_size=16,
        budget=Epochs(2),
    )
