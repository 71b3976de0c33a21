"""The life of every optimizer: train, save and load in every format, go on.

One model of a table and two layers, trained call by call, stopped in the middle of an
accumulation with rows that are behind. Each class meets each format once.
"""

import copy
import pickle
import warnings

import keras
import numpy as np
import pytest
from optimizer_cases import EVERY, WRAPPERS, name_of

from keras_adaptive import optimizers

BACKEND = keras.backend.backend()
ON_TENSORFLOW = BACKEND == "tensorflow"

STOP, END = 4, 7
"""Calls of `apply`; the first is in the middle of an accumulation."""

ROWS, WIDTH = 12, 4
OPTIONS = {"gradient_accumulation_steps": 3, "weight_decay": 2**-4}


def made(case):
    """Returns an optimizer that accumulates; a wrapper has one of ours in it."""
    if case not in WRAPPERS:
        return case.make(name="mine", **OPTIONS)
    inner = case.arguments["optimizer"]["config"]
    return case.make(
        name="mine", optimizer=optimizers.SGD(name="inner", **inner, **OPTIONS)
    )


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
            sparse = tf.IndexedSlices(
                tf.constant(gradient[ids]), tf.constant(ids), gradient.shape
            )
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


FORMATS = [keras_file, weights_file, pickled, weights_file_built, by_hand]
if ON_TENSORFLOW:
    FORMATS += [tf_checkpoint, tf_checkpoint_built]
# They hold no row state, and are saved with all rows up to date. HDF5 is last: Keras
# forgets the optimizer of a model that it has saved there, in its other files, too.
WITHOUT_ROWS = [state_tree, hdf5_file]


def assert_goes_on(model, fresh, formats, folder):
    """Saving changes nothing, and what is loaded goes on bit for bit."""
    before = weights_of(model)
    loads = [save(model, fresh, folder) for save in formats]
    assert_equal(weights_of(model), before)
    whole = finished(model)
    for save, load in zip(formats, loads, strict=True):
        assert_equal(finished(load()), whole, save.__name__)


def assert_close(got, want):
    """For rows that take the same steps in another order."""
    # The first half is before rows that are behind have caught up.
    for g, w in list(zip(got, want, strict=True))[len(want) // 2 :]:
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-5)


def assert_equal(got, want, message=""):
    for g, w in zip(got, want, strict=True):
        np.testing.assert_array_equal(g, w, message)


def one_of_each_class():
    first = {}
    for case in EVERY + WRAPPERS:
        first.setdefault(case.cls, case)
    return list(first.values())


CLASSES = one_of_each_class()
DAILY = ("adam", "schedule-free-adamw", "lookahead")


def classes(on):
    """One case a class on these backends, those that are not daily slow."""
    chosen = []
    for case in CLASSES:
        if case.name in DAILY:
            chosen.append(case)
        elif BACKEND in on:
            chosen.append(pytest.param(case, marks=pytest.mark.slow))
    return pytest.mark.parametrize("case", chosen, ids=name_of)


# JAX takes seconds a case, and TensorFlow differs by its rows only.
every_class = classes(on=("tensorflow", "torch"))
every_class_on_torch = classes(on=("torch",))
quiet = pytest.mark.filterwarnings(
    "ignore:You are saving your model as an HDF5 file",
    "ignore:.*point at which to evaluate",
)


def test_the_cases_have_every_class():
    exported = {getattr(optimizers, name) for name in optimizers.__all__}
    made_of = {
        cls
        for cls in exported - {optimizers.AdaptiveOptimizer}
        if isinstance(cls, type) and issubclass(cls, keras.optimizers.Optimizer)
    }
    assert made_of == {case.cls for case in CLASSES}


@quiet
@every_class
def test_every_class(case, tmp_path):
    """Each in one format, in turn; on TensorFlow a case takes seconds."""
    formats = FORMATS
    if ON_TENSORFLOW:
        formats = [FORMATS[CLASSES.index(case) % len(FORMATS)]]
    model = model_of(made(case))
    train(model, 0, STOP)
    assert_goes_on(model, lambda: model_of(made(case)), formats, tmp_path)


def goes_on_in_every_format(case, folder):
    def fresh():
        return model_of(made(case))

    model = fresh()
    train(model, 0, STOP)
    again = by_hand(model, fresh, folder)()
    assert_goes_on(model, fresh, FORMATS, folder)
    again.optimizer.flush()
    loads = [save(again, fresh, folder) for save in WITHOUT_ROWS]
    whole = finished(again)
    for load in loads:
        assert_close(finished(load()), whole)


@quiet
@pytest.mark.parametrize("case", [c for c in CLASSES if c.name == "adam"], ids=name_of)
def test_every_format(case, tmp_path):
    goes_on_in_every_format(case, tmp_path)


@quiet
@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [c for c in CLASSES if c.name in ("soap", "mechanic")],
    ids=name_of,
)
def test_every_format_of_other_kinds(case, tmp_path):
    goes_on_in_every_format(case, tmp_path)


def test_names_do_not_tell_who_built(tmp_path):
    """A state tree is put back by names: `apply` and `build` must give the same."""
    for case in (CLASSES[0], WRAPPERS[0]):
        one, other = model_of(made(case)), model_of(made(case))
        train(one, 0, 1)
        other.optimizer.build(other.trainable_variables)
        names = [[v.path for v in m.optimizer.variables] for m in (one, other)]
        assert names[0] == names[1]


@pytest.mark.tensorflow
def test_an_accumulation_without_row_state_in_a_trained_optimizer():
    """Such as `set_weights`, or state that was saved on another backend."""
    case = next(case for case in CLASSES if case.name == "adam")
    model, other = model_of(made(case)), model_of(made(case))
    train(model, 0, STOP)
    model.optimizer.flush()
    train(other, 0, 3)
    other.set_weights(model.get_weights())
    other.optimizer.set_weights([v.numpy() for v in model.optimizer.variables])
    assert_close(finished(other), finished(model))


# Layers that are frozen and thawed, with one optimizer.


def state_of_layer(model, name):
    """The state of a layer's variables by slot and variable."""
    optimizer = model.optimizer
    ids = list(map(id, optimizer._trainable_variables))
    layer = model.get_layer(name)
    places = {ids.index(id(v)): v.name for v in layer.variables if id(v) in ids}
    found = {}
    for key, value in optimizer.get_state().items():
        slot, _, place = key.rpartition(":")
        if place.isdigit() and int(place) in places:
            found[f"{slot} of {places[int(place)]}"] = value
    return found


def plain(case):
    """Without accumulation, whose sums wait in a frozen layer, too."""
    return case.make() if case not in WRAPPERS else case.make(optimizer=momentum_sgd())


def momentum_sgd():
    return optimizers.SGD(2**-4, momentum=0.75)


@quiet
@every_class_on_torch
def test_frozen_and_thawed(case):
    model = model_of(plain(case))
    train(model, 0, 2)
    layer, state = model.get_layer("hidden"), state_of_layer(model, "hidden")
    before, others = layer.get_weights(), model.get_layer("head").get_weights()
    layer.trainable = False
    model.compile(model.optimizer, keras.losses.MeanSquaredError(), jit_compile=False)
    train(model, 2, 4)
    assert_equal(layer.get_weights(), before)
    after = state_of_layer(model, "hidden")
    # What SAM keeps on the way between its two points ends with it.
    kept = [key for key in state if not key.startswith("unperturbed")]
    assert_equal([after[key] for key in kept], [state[key] for key in kept])
    assert np.abs(others[0] - model.get_layer("head").get_weights()[0]).max() > 0
    layer.trainable = True
    model.compile(model.optimizer, keras.losses.MeanSquaredError(), jit_compile=False)
    train(model, 4, 5)
    moved = np.abs(layer.get_weights()[0] - before[0]).max()
    assert 0 < moved < 1


# Another head.


def head_exchanged(case, ways, folder):
    """State of the other layers goes on; one warning lists what starts afresh."""
    model = model_of(plain(case))
    train(model, 0, 3)
    model.optimizer.flush()
    model.save_weights(folder / "model.weights.h5")
    for way in ways:
        new = model_of(plain(case), head=3)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            way(model, new, folder / "model.weights.h5")
            new.optimizer.build(new.trainable_variables)
        fresh = model_of(plain(case), head=3)
        fresh.set_weights(new.get_weights())
        fresh.optimizer.build(fresh.trainable_variables)
        for layer, right in (("table", model), ("hidden", model), ("head", fresh)):
            got, want = state_of_layer(new, layer), state_of_layer(right, layer)
            shared = [key for key in want if not key.startswith("row_")]
            assert_equal([got[key] for key in shared], [want[key] for key in shared])
        # A wrapper and the optimizer in it have a state, and a warning, each.
        owners = {key.rpartition("/")[0] for key in state_of_layer(fresh, "head")}
        texts = [str(w.message) for w in caught if " anew" in str(w.message)]
        assert len(texts) == len(owners)
        assert all("head/kernel" in text for text in texts)


def by_state(model, new, file):
    for layer, old in zip(new.layers[:-1], model.layers[:-1], strict=True):
        layer.set_weights(old.get_weights())
    new.optimizer.build(new.trainable_variables)
    with pytest.raises(ValueError, match="head/kernel") as error:
        new.optimizer.set_state(model.optimizer.get_state())
    # Everything else has been loaded.
    for text in str(error.value).splitlines():
        warnings.warn(text, stacklevel=1)


def by_skipping(model, new, file):
    new.load_weights(file, skip_mismatch=True)


@every_class_on_torch
def test_another_head(case, tmp_path):
    ways = [by_skipping, by_state] if case.name in DAILY else [by_skipping]
    head_exchanged(case, ways, tmp_path)
