"""The life of every optimizer: train, save and load in every format, go on.

One model of a table and two layers, trained call by call, stopped in the middle of an
accumulation with rows that are behind. Each class meets each format once.
"""

import copy
import pickle
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from optimizer_cases import EVERY, WRAPPERS, name_of

BACKEND = keras.backend.backend()
ON_TENSORFLOW = BACKEND == "tensorflow"

STOP, END = 5, 11
"""Calls of `apply`; the first is in the middle of an accumulation."""

ROWS, WIDTH = 12, 4
OPTIONS = {"gradient_accumulation_steps": 3, "weight_decay": 2**-4}

every = pytest.mark.parametrize("case", EVERY + WRAPPERS, ids=name_of)


def options_for(case):
    """Arguments with which it accumulates; a wrapper gives them to its optimizer."""
    if case not in WRAPPERS:
        return OPTIONS
    inner = case.arguments["optimizer"]
    return {"optimizer": {**inner, "config": {**inner["config"], "name": "inner", **OPTIONS}}}


def model_of(optimizer, head=2, names=("table", "hidden", "head")):
    table, hidden, last = names
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(ROWS, WIDTH, name=table),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(4, name=hidden),
            keras.layers.Dense(head, name=last),
        ],
        name="model",
    )
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    model.compile(optimizer, keras.losses.MeanSquaredError(), jit_compile=False)
    return model


def train(model, start, stop):
    """Makes calls of `apply` with gradients that depend on the weights."""
    optimizer, variables = model.optimizer, model.trainable_variables
    for step in range(start, stop):
        rng = np.random.default_rng(step)
        gradients = []
        for variable in variables:
            weights = keras.ops.convert_to_numpy(variable)
            values = rng.integers(-16, 17, weights.shape) / 16 + weights / 8
            gradients.append(values.astype(weights.dtype))
        optimizer.apply(as_tensors(gradients, variables, rng), variables)


def as_tensors(gradients, variables, rng):
    """Returns tensors; those of tables are sparse where the backend has such."""
    tensors = []
    for gradient, variable in zip(gradients, variables, strict=True):
        if ON_TENSORFLOW and variable.shape[0] == ROWS:
            import tensorflow as tf

            ids = rng.integers(0, ROWS, 3)
            sparse = tf.IndexedSlices(tf.constant(gradient[ids]), tf.constant(ids), gradient.shape)
            tensors.append(sparse)
        else:
            tensors.append(keras.ops.convert_to_tensor(gradient))
    return tensors


def weights_of(model):
    return [keras.ops.convert_to_numpy(v).copy() for v in model.variables]


def finished(model):
    """Goes on to the end; returns the weights there and where they are evaluated."""
    train(model, STOP, END)
    at_training = weights_of(model)
    model.optimizer.finalize_variable_values(model.trainable_variables)
    return at_training + weights_of(model)


# Each format: save a model, and return one that goes on.


def keras_file(model, fresh, folder):
    model.save(folder / "model.keras")
    return lambda: keras.saving.load_model(folder / "model.keras")


def hdf5_file(model, fresh, folder):
    model.save(folder / "model.h5")
    return lambda: keras.saving.load_model(folder / "model.h5")


def weights_file(model, fresh, folder):
    model.save_weights(folder / "model.weights.h5")

    def load():
        again = fresh()
        again.load_weights(folder / "model.weights.h5")
        return again

    return load


def weights_file_built(model, fresh, folder):
    model.save_weights(folder / "built.weights.h5")

    def load():
        again = fresh()
        again.optimizer.build(again.trainable_variables)
        again.load_weights(folder / "built.weights.h5")
        return again

    return load


def pickled(model, fresh, folder):
    data = pickle.dumps(model)
    return lambda: pickle.loads(data)


def by_hand(model, fresh, folder):
    weights, state = model.get_weights(), model.optimizer.get_state()

    def load():
        again = fresh()
        again.set_weights(weights)
        again.optimizer.build(again.trainable_variables)
        again.optimizer.set_state(state)
        return again

    return load


def state_tree(model, fresh, folder):
    """As `keras.callbacks.OrbaxCheckpoint` does."""
    tree = copy.deepcopy(model.get_state_tree(value_format="numpy_array"))

    def load():
        again = fresh()
        again.optimizer.build(again.trainable_variables)
        again.set_state_tree(tree)
        return again

    return load


def tf_checkpoint(model, fresh, folder, built=False):
    import tensorflow as tf

    path = tf.train.Checkpoint(model=model).save(str(folder / "checkpoint"))

    def load():
        again = fresh()
        if built:
            again.optimizer.build(again.trainable_variables)
        tf.train.Checkpoint(model=again).restore(path)
        return again

    return load


def tf_checkpoint_built(model, fresh, folder):
    return tf_checkpoint(model, fresh, folder, built=True)


FORMATS = [
    keras_file,
    hdf5_file,
    weights_file,
    weights_file_built,
    pickled,
    by_hand,
    state_tree,
]
if ON_TENSORFLOW:
    FORMATS += [tf_checkpoint, tf_checkpoint_built]


def different(got, want):
    """The largest difference of two lists of arrays, 0 only if they are equal."""
    if all(map(np.array_equal, got, want)):
        return 0
    return max(np.abs(g - w).max() for g, w in zip(got, want, strict=True))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.filterwarnings("ignore:.*point at which to evaluate")
@every
def test_every_format(case, tmp_path):
    """Saving changes nothing, and what was loaded goes on bit for bit."""

    def fresh():
        return model_of(case.make(name="mine", **options_for(case)))

    model = fresh()
    train(model, 0, STOP)
    weights, loads = weights_of(model), {}
    failed = {}
    for form in FORMATS:
        try:
            loads[form.__name__] = form(model, fresh, tmp_path)
        except Exception as error:
            failed[form.__name__] = repr(error)[:150]
    assert different(weights_of(model), weights) == 0
    whole = finished(model)
    for form, load in loads.items():
        try:
            distance = different(finished(load()), whole)
        except Exception as error:
            distance = repr(error)[:150]
        if distance:
            failed[form] = distance
    assert not failed
