"""One call exchanges the layers of a model; weights and outputs stay."""

import keras
import numpy as np
import pytest

from keras_adaptive import layers, optimizers
from keras_adaptive.layers import exchange

WORDS = 50
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"


def sequential():
    return keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(WORDS, 4, mask_zero=True),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(2),
        ]
    )


def functional():
    """A shared table, and a model within a model."""
    left, right = (keras.Input((3,), dtype="int32", name=n) for n in ("left", "right"))
    table, inner = keras.layers.Embedding(WORDS, 4), sequential()
    both = keras.layers.Concatenate()([table(left), table(right)])
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(both))
    return keras.Model([left, right], keras.layers.Add()([outputs, inner(left)]))


def embeddings(model):
    found = []
    for layer in model.layers:
        inner = isinstance(layer, keras.Model)
        found += embeddings(layer) if inner else [layer]
    return [each for each in found if isinstance(each, keras.layers.Embedding)]


@pytest.mark.parametrize("make", [sequential, functional])
def test_weights_outputs_and_names_stay(make, tmp_path):
    model = make()
    new = exchange(model)
    assert len(embeddings(new)) == len(embeddings(model)) > 0
    assert {type(layer) for layer in embeddings(new)} == {layers.Embedding}
    assert {type(layer) for layer in embeddings(model)} == {keras.layers.Embedding}
    ids = np.random.default_rng(0).integers(0, WORDS, (5, 3))
    given = [ids] * len(model.inputs)
    np.testing.assert_array_equal(
        new.predict(given, verbose=0), model.predict(given, verbose=0)
    )
    assert [layer.name for layer in new.layers] == [
        layer.name for layer in model.layers
    ]
    path = str(tmp_path / "model.weights.h5")
    model.save_weights(path)
    new.load_weights(path)


def test_the_model_given_keeps_its_own_weights():
    model = sequential()
    before = model.get_weights()
    new = exchange(model)
    new.set_weights([np.zeros_like(w) for w in before])
    for got, want in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="sparse inputs: TensorFlow only here")
def test_dense_on_a_sparse_input():
    words = keras.Input((WORDS,), sparse=True)
    model = keras.Model(words, keras.layers.Dense(2)(keras.layers.Dense(3)(words)))
    first, second = exchange(model).layers[1:]
    assert type(first) is layers.SparseDense
    assert type(second) is keras.layers.Dense


def bag(dense):
    """A table and a bag of words, with a dense layer after it."""
    ids = keras.Input((3,), dtype="int32", name="ids")
    words = keras.Input((WORDS,), sparse=ON_TENSORFLOW, name="words")
    both = keras.layers.Concatenate()(
        [
            keras.layers.Flatten()(keras.layers.Embedding(WORDS, 4)(ids)),
            dense(3)(words),
        ]
    )
    return keras.Model([ids, words], keras.layers.Dense(2)(both))


@pytest.mark.parametrize("kind", ["weights.h5", "keras"])
@pytest.mark.parametrize("trained", [False, True], ids=["compiled", "trained"])
def test_files_of_either_load_into_the_other(tmp_path, kind, trained):
    """Keras names weights by the class of their layer, and numbers the rest."""

    def compiled(model):
        model.compile(optimizers.Adam(0.1, sparse="dense"), "mse", jit_compile=False)
        if trained:
            rng = np.random.default_rng(0)
            x = [rng.integers(0, WORDS, (5, 3)), rng.random((5, WORDS), "float32")]
            for _ in range(2):
                model.train_on_batch([x[0], as_words(x[1])], np.ones((5, 2)))
        return model

    theirs = compiled(bag(keras.layers.Dense))
    if ON_TENSORFLOW:
        ours = compiled(exchange(theirs))
    else:  # Keras has no sparse inputs here: `exchange` cannot know.
        ours = compiled(bag(layers.SparseDense))
    assert layers.SparseDense in {type(layer) for layer in ours.layers}
    for source, target in ((theirs, ours), (ours, theirs)):
        path = str(tmp_path / f"model.{kind}")
        source.save(path) if kind == "keras" else source.save_weights(path)
        for weight in target.weights:
            weight.assign(weight + 1)
        target.load_weights(path)
        assert_same(target.get_weights(), source.get_weights())
        if trained:
            got, want = slots(target.optimizer), slots(source.optimizer)
            assert got.keys() == want.keys() and len(want) > 8
            assert_same(got.values(), want.values())


def test_a_saved_model_has_our_layers_again(tmp_path):
    model = bag(layers.SparseDense)
    path = str(tmp_path / "model.keras")
    exchange(model).save(path)
    again = keras.saving.load_model(path)
    kinds = {type(layer) for layer in again.layers}
    assert {layers.SparseDense, layers.Embedding, keras.layers.Dense} <= kinds


def as_words(x):
    if not ON_TENSORFLOW:
        return x
    import tensorflow as tf

    return tf.sparse.from_dense(x)


def slots(optimizer):
    """The state but the names of the layers, which Keras numbers."""
    state = optimizer.get_state()
    return {name: v for name, v in state.items() if np.asarray(v).dtype.kind == "f"}


def assert_same(got, want):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_cannot_be_exchanged_is_refused():
    class Own(keras.Model):
        pass

    with pytest.raises(ValueError, match="Only Sequential and functional models"):
        exchange(Own())
    with pytest.raises(ValueError, match="has no weights yet"):
        exchange(keras.Sequential([keras.layers.Embedding(WORDS, 4)]))
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"has no `keras.layers.Embedding`"):
        exchange(plain)
