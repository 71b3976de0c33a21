import pickle

import keras
import numpy as np
import pytest
from scipy import sparse

from keras_adaptive.datasets.bundled import load_diabetes, load_wine
from keras_adaptive.datasets.dataset import Dataset, Split
from keras_adaptive.datasets.synthetic import RareCategories
from keras_adaptive.errors import StudyError
from keras_adaptive.study.design.default_models import default_model
from keras_adaptive.study.design.defaults import default_loss, default_metric


def pictures(dtype):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (20, 9, 8, 2)).astype(dtype)
    return Dataset("pictures", "made up", *[Split(x, np.arange(20) % 3)] * 3)


def texts():
    x = sparse.random(20, 30, 0.2, "csr", "float32", random_state=0)
    return Dataset("texts", "made up", *[Split(x, np.arange(20) % 2)] * 3)


MADE = {
    "numbers": load_wine,
    "regression": load_diabetes,
    "table": lambda: RareCategories(rows=400).load(),
    "bytes": lambda: pictures("uint8"),
    "floats": lambda: pictures("float32"),
    "texts": texts,
}


@pytest.mark.parametrize("kind", MADE)
def test_default_models_fit_the_data(kind):
    data = MADE[kind]()
    build = pickle.loads(pickle.dumps(default_model(data)))
    model = build(0)
    model.compile(
        "adam",
        default_loss(data),
        metrics=[default_metric(data)],
        jit_compile=False,
    )
    history = model.fit(data.train.x, data.train.y, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"][0])
    assert model.output_shape == (None, len(data.classes) or 1)
    found = model.evaluate(data.test.x, data.test.y, verbose=0, return_dict=True)
    assert default_metric(data) in found


@pytest.mark.parametrize("kind", MADE)
def test_the_seed_alone_decides_all_weights(kind):
    build = default_model(MADE[kind]())

    def weights(seed, state):
        keras.utils.set_random_seed(state)
        return build(seed).get_weights()

    one, same, other = weights(3, 0), weights(3, 1), weights(4, 0)
    for left, right, third in zip(one, same, other, strict=True):
        np.testing.assert_array_equal(left, right)
        assert left.ndim == 1 or (left != third).any()
    tables = [each.ravel()[:8] for each in one if each.ndim > 1]
    assert len({each.tobytes() for each in tables}) == len(tables)


def test_images_of_bytes_are_scaled():
    scale = [default_model(pictures(dtype)).keywords["scale"] for dtype in "Bf"]
    assert scale == [1 / 255, 1.0]


def test_no_default_for_such_data():
    y = np.arange(20) % 2
    parts = [Split(np.zeros((20, 3, 4)) + y[:, None, None], y)] * 3
    with pytest.raises(StudyError, match="no default model for series"):
        default_model(Dataset("series", "made up", *parts))
