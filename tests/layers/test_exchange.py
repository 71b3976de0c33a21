"""One call exchanges the layers of a model; weights and outputs stay."""

import keras
import numpy as np
import pytest

from keras_adaptive import layers
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
