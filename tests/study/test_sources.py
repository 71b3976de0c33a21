"""Data by name and by file: what is loaded, and what is said when it is not there."""

import argparse
import gzip
import struct

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.utils import Bunch

from keras_adaptive import datasets
from keras_adaptive.datasets import fetched, images
from keras_adaptive.datasets.rare import rare_rows, rare_slice
from keras_adaptive.datasets.synthetic import RareCategories
from keras_adaptive.errors import StudyError


def parse(*arguments, default=("digits",)):
    parser = argparse.ArgumentParser()
    datasets.add_arguments(parser, *default)
    return parser.parse_args(list(map(str, arguments)))


def load(*arguments):
    return datasets.load(parse(*arguments))


@pytest.mark.parametrize(
    ("name", "rows", "shape", "classes"),
    [
        ("digits", 1_797, (64,), 10),
        ("wine", 178, (13,), 3),
        ("breast_cancer", 569, (30,), 2),
        ("diabetes", 442, (10,), 0),
    ],
)
def test_bundled(name, rows, shape, classes):
    data = load("--data", name)
    assert data.name == name
    assert sum(len(part.y) for part in data.parts.values()) == rows
    assert data.train.x.shape[1:] == shape
    assert len(data.classes) == classes
    assert data.task == ("classification" if classes else "regression")
    assert data.digest == load("--data", name).digest


def test_the_default_source():
    assert load().name == "digits"
    with pytest.raises(SystemExit):
        parse(default=())


def test_several_sources():
    options = parse("--data", "wine", "digits")
    assert [data.name for data in datasets.load_all(options)] == ["wine", "digits"]
    with pytest.raises(StudyError, match="names 2 sources: wine, digits"):
        datasets.load(options)


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
def test_a_file_by_its_name(tmp_path, suffix):
    path = tmp_path / f"my.{suffix}"
    rows = pd.DataFrame(
        {"x": np.arange(40.0), "kind": [1, 2] * 20, "y": ["a", "b"] * 20}
    )
    getattr(rows, f"to_{suffix.partition('.')[0]}")(path, index=False)
    data = load("--data", path, "--target", "y", "--category", "kind")
    assert sorted(data.train.x) == ["kind", "numbers"]
    again = load("--data", path, "--target", "y", "--test-file", path)
    assert [len(part.y) for part in again.parts.values()] == [36, 4, 40]
    numbers = load("--data", path, "--target", "kind", "--task", "regression")
    assert numbers.task == "regression"


def test_a_libsvm_file_by_its_name(tmp_path):
    path = tmp_path / "my.svm"
    path.write_text("1 1:1 2:1\n0 2:1\n" * 20)
    assert load("--data", path).name == "svmlight:my.svm"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "digit"], "no data source 'digit'.*Did you mean 'digits'"),
        (["--data", "my.xlsx"], "no data source 'my.xlsx'"),
        (["--data", "my.csv"], "needs --target"),
        (["--data", "none.csv", "--target", "y"], "does not exist"),
        (["--data", "csv:"], "names nothing.*csv:data/my.csv"),
        (["--data", "openml:"], "names nothing.*openml:adult"),
        (
            ["--data", "a.parquet", "--target", "y", "--text-column", "t"],
            "for CSV files",
        ),
        (["--max-words", "0"], "at least 1"),
    ],
)
def test_bad_sources(arguments, words):
    with pytest.raises(StudyError, match=f"(?s){words}"):
        load(*arguments)


def refuse(**arguments):
    raise OSError("no network")


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("covertype", "fetch_covtype"),
        ("california_housing", "fetch_california_housing"),
        ("adult", "fetch_openml"),
        ("openml:credit-g", "fetch_openml"),
    ],
)
def test_absent_and_offline(monkeypatch, tmp_path, name, function):
    refuse.__name__ = function
    monkeypatch.setattr(fetched.datasets, function, refuse)
    with pytest.raises(StudyError) as caught:
        load("--data", name, "--data-home", tmp_path)
    for words in (str(tmp_path), "no network", function, "--data-home"):
        assert words in str(caught.value)


def test_fashion_mnist_absent_and_offline(monkeypatch, tmp_path):
    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", refuse)
    with pytest.raises(StudyError, match="(?s)no network.*train-images-idx3-ubyte.gz"):
        load("--data", "fashion_mnist", "--data-home", tmp_path)


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
    data = load("--data", "fashion_mnist", "--data-home", tmp_path)
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
    with pytest.raises(StudyError, match="cannot be read as an IDX file"):
        images.read_idx(path)
    path.write_bytes(gzip.compress(struct.pack(">HBBI", 0, 8, 1, 5) + b"\1\2"))
    with pytest.raises(StudyError, match="not what its header says"):
        images.read_idx(path)


def test_openml(monkeypatch, tmp_path):
    def fetch(data_home, name, version, as_frame, parser):
        assert (data_home, name, as_frame) == (tmp_path, "credit-g", True)
        rows = pd.DataFrame({"age": np.arange(40.0), "class": ["good", "bad"] * 20})
        rows["class"] = rows["class"].astype("category")
        return Bunch(frame=rows, target=rows["class"], details={"version": "1"})

    monkeypatch.setattr(fetched.datasets, "fetch_openml", fetch)
    data = load("--data", "openml:credit-g", "--data-home", tmp_path)
    assert data.name == "openml:credit-g"
    assert data.classes == ("bad", "good")
    assert data.source == "OpenML credit-g, version 1"


def test_covertype(monkeypatch):
    rng = np.random.default_rng(0)
    bunch = Bunch(data=rng.random((200, 54)), target=rng.integers(1, 8, 200))
    monkeypatch.setattr(fetched.datasets, "fetch_covtype", lambda data_home: bunch)
    data = load("--data", "covertype")
    assert data.classes == tuple("1234567")
    assert data.train.x.shape[1] == 54


def test_damaged_adult(tmp_path):
    for name in ("adult.data", "adult.test"):
        (tmp_path / name).write_text("39, State-gov, 77516\n")
    with pytest.raises(StudyError, match="row 1 does not have 15 fields"):
        load("--data", "adult", "--data-home", tmp_path)


def test_real_data_by_name(real_data):
    adult = load("--data", "adult", "--data-home", real_data)
    assert len(adult.train.y) + len(adult.validation.y) == 32_561
    assert len(adult.test.y) == 16_281
    assert adult.classes == ("<=50K", ">50K")
    assert (adult.test.y == 1).sum() == 3_846
    assert len(adult.train.x) == 9
    houses = load("--data", "california_housing", "--data-home", real_data)
    assert houses.task == "regression"
    assert sum(len(part.y) for part in houses.parts.values()) == 20_640
    clothes = load("--data", "fashion_mnist", "--data-home", real_data)
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
    with pytest.raises(StudyError, match="RareCategories: "):
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
    with pytest.raises(StudyError, match="neither categories nor sparse features"):
        rare_rows(load("--data", "wine"))
    with pytest.raises(StudyError, match="No test row.*higher limit"):
        rare_rows(tiny, below=1)
