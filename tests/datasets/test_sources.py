"""Real and made-up data: what is loaded, and what is said when it is not there."""

import gzip
import struct
from functools import partial

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.utils import Bunch

from keras_adaptive.datasets import (
    RareCategories,
    fetched,
    images,
    load_adult,
    load_california_housing,
    load_covertype,
    load_fashion_mnist,
    load_openml,
    load_wine,
    rare_rows,
    rare_slice,
)
from keras_adaptive.errors import InputError


def refuse(**arguments):
    raise OSError("no network")


@pytest.mark.parametrize(
    ("load", "function"),
    [
        (load_covertype, "fetch_covtype"),
        (load_california_housing, "fetch_california_housing"),
        (load_adult, "fetch_openml"),
        (partial(load_openml, "credit-g"), "fetch_openml"),
    ],
)
def test_absent_and_offline(monkeypatch, tmp_path, load, function):
    refuse.__name__ = function
    monkeypatch.setattr(fetched.datasets, function, refuse)
    with pytest.raises(InputError) as caught:
        load(tmp_path)
    for words in (str(tmp_path), "no network", function, "--data-home"):
        assert words in str(caught.value)


def test_fashion_mnist_absent_and_offline(monkeypatch, tmp_path):
    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", refuse)
    with pytest.raises(InputError, match="(?s)no network.*train-images-idx3-ubyte.gz"):
        load_fashion_mnist(tmp_path)


def idx(array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes(), mtime=0)


@pytest.mark.parametrize("folder", ["fashion-mnist", "."])
def test_fashion_mnist_files(tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(10), 12)
    pictures = rng.integers(0, 256, (120, 28, 28))
    for name, array in zip(images.FILES, [pictures, labels] * 2, strict=True):
        (tmp_path / folder / name).write_bytes(idx(array))
    data = load_fashion_mnist(tmp_path)
    assert data.train.x.shape == (110, 28, 28, 1)
    assert data.train.x.dtype == np.uint8
    np.testing.assert_array_equal(data.test.x[..., 0], pictures)
    np.testing.assert_array_equal(data.test.y, labels)


@pytest.mark.parametrize(
    "content", [b"no gzip", gzip.compress(b"\0\0", mtime=0), idx(np.zeros((2, 3)))[:-9]]
)
def test_damaged_idx_files(tmp_path, content):
    path = tmp_path / "x.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as an IDX file"):
        images.read_idx(path)
    path.write_bytes(gzip.compress(struct.pack(">HBBI", 0, 8, 1, 5) + b"\1\2"))
    with pytest.raises(InputError, match="not what its header says"):
        images.read_idx(path)


def test_openml(monkeypatch, tmp_path):
    def fetch(data_home, name, version, as_frame, parser):
        assert (data_home, name, as_frame) == (tmp_path, "credit-g", True)
        rows = pd.DataFrame({"age": np.arange(40.0), "class": ["good", "bad"] * 20})
        rows["class"] = rows["class"].astype("category")
        return Bunch(frame=rows, target=rows["class"], details={"version": "1"})

    monkeypatch.setattr(fetched.datasets, "fetch_openml", fetch)
    data = load_openml("credit-g", tmp_path)
    assert data.name == "openml:credit-g"
    assert data.classes == ("bad", "good")
    assert data.source == "OpenML credit-g, version 1"


def test_covertype(monkeypatch):
    rng = np.random.default_rng(0)
    bunch = Bunch(data=rng.random((200, 54)), target=rng.integers(1, 8, 200))
    monkeypatch.setattr(fetched.datasets, "fetch_covtype", lambda data_home: bunch)
    data = load_covertype()
    assert data.classes == tuple("1234567")
    assert data.train.x.shape[1] == 54


def test_damaged_adult(tmp_path):
    for name in ("adult.data", "adult.test"):
        (tmp_path / name).write_text("39, State-gov, 77516\n")
    with pytest.raises(InputError, match="row 1 does not have 15 fields"):
        load_adult(tmp_path)


def test_real_data_by_name(real_data):
    adult = load_adult(real_data)
    assert len(adult.train.y) + len(adult.validation.y) == 32_561
    assert len(adult.test.y) == 16_281
    assert adult.classes == ("<=50K", ">50K")
    assert (adult.test.y == 1).sum() == 3_846
    assert len(adult.train.x) == 9
    houses = load_california_housing(real_data)
    assert houses.task == "regression"
    assert sum(len(part.y) for part in houses.parts.values()) == 20_640
    clothes = load_fashion_mnist(real_data)
    assert clothes.describe().startswith("fashion_mnist: 54,000 / 6,000 / 10,000 rows")
    assert (np.bincount(clothes.test.y) == 1_000).all()


TABLES = RareCategories(rows=4_000, codes=300)


def test_the_best_accuracy_is_that_of_who_knows_the_odds():
    """Measured on rows of another seed, by the odds alone."""
    many = RareCategories(rows=200_000, codes=300, rare_below=1_000)
    rng = np.random.default_rng(7)
    code = rng.choice(300, 200_000, p=many.frequencies)
    region = rng.integers(0, many.regions, 200_000)
    odds = many.log_odds[code, region]
    y = rng.random(200_000) < 1 / (1 + np.exp(-odds))
    right = (odds > 0) == y
    assert abs(right.mean() - many.best_accuracy) < 0.003
    on_rare = right[many.rare[code]]
    assert len(on_rare) > 10_000
    assert abs(on_rare.mean() - many.best_accuracy_on_rare) < 0.005


def test_rare_codes_tell_more_than_frequent_ones():
    assert 0 < TABLES.rare.sum() < 300
    assert TABLES.best_accuracy_on_rare > TABLES.best_accuracy + 0.1
    sizes = np.abs(TABLES.log_odds.mean(axis=1))
    assert sizes[TABLES.rare].min() > sizes[~TABLES.rare].max()


def test_the_seed_decides_the_table():
    one, same, other = (
        RareCategories(rows=400, seed=seed).load().digest for seed in (1, 1, 2)
    )
    assert one == same != other


@pytest.mark.parametrize("options", [{"rows": 99}, {"codes": 0}, {"rows": 1.5e3}])
def test_bad_tables(options):
    with pytest.raises(InputError, match="RareCategories: "):
        RareCategories(**options)


def test_rows_with_rare_categories():
    data = TABLES.load()
    rare = rare_rows(data, below=10)
    seen = np.bincount(data.train.x["code"], minlength=data.test.x["code"].max() + 1)
    for row, code in enumerate(data.test.x["code"]):
        assert rare[row] == (0 < seen[code] < 10)
    assert 0 < rare.sum() < len(rare)


def test_rows_with_rare_words(tiny):
    from scipy import sparse

    from keras_adaptive.datasets.dataset import Dataset, Split

    train = sparse.csr_matrix(np.array([[1, 1, 0, 0]] * 4 + [[1, 0, 1, 0]], float))
    test = sparse.csr_matrix(
        np.array(
            [[0, 0, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]],
            float,
        )
    )
    y = np.array([0, 1, 0, 1, 0])
    data = Dataset("n", "s", Split(train, y), Split(test, y), Split(test, y))
    assert rare_rows(data, below=2).tolist() == [True, True, False, False, False]
    assert list(rare_slice(data)) == ["rare"]


def test_data_without_rare_features(tiny):
    with pytest.raises(InputError, match="neither categories nor sparse features"):
        rare_rows(load_wine())
    with pytest.raises(InputError, match="No test row.*higher limit"):
        rare_rows(tiny, below=1)
