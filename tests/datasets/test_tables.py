import gzip

import numpy as np
import pandas as pd
import pytest

from keras_adaptive.datasets.csv_files import load_table, read_csv
from keras_adaptive.datasets.dataset import Split, three_parts
from keras_adaptive.datasets.frames import encoder, load_frame, table
from keras_adaptive.errors import InputError

COLOURS = ("red", "green", "blue")


def frame(rows=60):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "colour": rng.choice(COLOURS, rows),
            "weight": rng.normal(5, 2, rows),
            "shelf": rng.integers(1, 5, rows),
            "sold": np.arange(rows) % 2 == 0,
        }
    )


def load(table=None, **options):
    options = {"target": "sold"} | options
    return load_frame("mine", "here", frame() if table is None else table, **options)


def test_categories_and_numbers_become_inputs():
    data = load(categories=["shelf"])
    assert sorted(data.train.x) == ["colour", "numbers", "shelf"]
    assert data.train.x["numbers"].shape == (48, 1)
    assert data.train.x["colour"].dtype == data.train.x["shelf"].dtype == np.int32
    assert data.classes == ("False", "True")
    assert data.describe().endswith("2 categories with 7 values, 1 numbers, 2 classes")


def test_without_categories_there_is_one_array():
    data = load(frame().drop(columns="colour"))
    assert data.train.x.shape == (48, 2)
    np.testing.assert_allclose(data.train.x.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(data.train.x.std(axis=0), 1, rtol=1e-5)


def test_everything_is_learned_from_the_training_part():
    plain = frame()
    *_, test = three_parts(
        Split(np.arange(60), plain["sold"].to_numpy(int)), None, "classification", 0
    )
    strange = plain.copy()
    strange.loc[test.x, "colour"] = "violet"
    strange.loc[test.x, "weight"] = 1e6
    one, other = load(plain), load(strange)
    for name, values in one.train.x.items():
        np.testing.assert_array_equal(values, other.train.x[name])
    assert (other.test.x["colour"] == 0).all()
    assert (other.test.x["numbers"][:, 0] > 1e5).all()


def test_the_most_frequent_category_is_the_first():
    encode = encoder({"a": np.array(["x", "y", "y"]), "b": np.array([7, 7, -3])}, "s")
    found = encode({"a": np.array(["y", "x", "z"]), "b": np.array([-3, 7, 8])})
    assert found["a"].tolist() == [1, 2, 0]
    assert found["b"].tolist() == [2, 1, 0]


def test_missing_numbers_become_the_median_and_are_flagged():
    train = {"n": np.array([1.0, np.nan, 2.0, 30.0]), "m": np.array([0.0, 1, 2, 3])}
    encoded = encoder(train, "s")(train)
    assert encoded.shape == (4, 3)
    at_median = encoder(train, "s")({"n": np.array([2.0]), "m": np.array([1.0])})
    np.testing.assert_allclose(encoded[1, 0], at_median[0, 0], rtol=1e-6)
    assert (encoded[:, 2] > 0).tolist() == [False, True, False, False]


def test_a_missing_category_is_one_by_itself():
    rows = frame()
    rows.loc[::3, "colour"] = None
    rows["shelf"] = rows["shelf"].astype(float)
    rows.loc[::4, "shelf"] = None
    data = load(rows, categories=["shelf"])
    assert len(np.unique(data.train.x["colour"])) == 4
    assert len(np.unique(data.train.x["shelf"])) == 5


def test_constant_numbers_are_left_out_and_large_ones_keep_their_digits():
    rng = np.random.default_rng(0)
    seconds = 1.6e9 + rng.random(50)
    encode = encoder({"time": seconds, "year": np.full(50, 2024.0)}, "s")
    encoded = encode({"time": seconds, "year": np.arange(50.0)})
    expected = (seconds - seconds.mean()) / seconds.std()
    np.testing.assert_allclose(encoded[:, 0], expected, atol=1e-4)
    assert encoded.shape == (50, 1)


@pytest.mark.parametrize(
    ("target", "task"),
    [
        ([0.5, 1.5], "regression"),
        ([1.0, 2.0], "classification"),
        (range(51), "regression"),
        (range(50), "classification"),
        (["1", "x"], "classification"),
        ([True, False], "classification"),
    ],
)
def test_the_task_is_told_from_the_target(target, task):
    rows = pd.DataFrame({"x": np.arange(510.0)})
    rows["y"] = (list(target) * 510)[:510]
    assert load(rows, target="y").task == task


def test_the_task_may_be_said():
    data = load(target="shelf", task="regression")
    assert data.task == "regression"
    assert data.classes == ()
    assert abs(data.train.y.mean()) < 1e-6


def test_official_test_rows():
    test = frame(9)
    data = load(frame(), test=test)
    assert [len(part.y) for part in data.parts.values()] == [54, 6, 9]
    np.testing.assert_array_equal(data.test.y, test["sold"].to_numpy(int))
    with pytest.raises(InputError, match="Expected those of the training rows: colour"):
        load(frame(), test=test.drop(columns="shelf"))
    with pytest.raises(InputError, match="has the label 9, which the training"):
        load(frame(), test=test.assign(shelf=9), target="shelf")


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({}, {"target": "solid"}, "no column 'solid'.*Did you mean 'sold'"),
        ({}, {"categories": ["shelv"]}, "no column 'shelv'.*Did you mean 'shelf'"),
        ({}, {"categories": ["sold"]}, "is the target"),
        ({}, {"categories": ["weight"]}, "named as a category and holds"),
        ({}, {"task": "regression"}, "does not hold numbers"),
        ({"sold": None}, {}, "60 of 60 rows have no label in column 'sold'.*row 1"),
        ({"sold": True}, {}, "only the class 'True'"),
        ({"weight": np.inf}, {}, "the column 'weight' is infinite in row 1"),
        ({"weight": np.nan}, {}, "'weight' has no value in any training row"),
        ({"numbers": "a"}, {}, "two inputs would have one name"),
        ({"a/b": "x", "a_b": "x"}, {}, "two inputs would have one name"),
        ({"weight": pd.Timestamp(2024, 1, 1)}, {}, "of type datetime"),
        ({"weight": 3 + 1j}, {}, "of type complex"),
    ],
)
def test_bad_tables(change, options, words):
    with pytest.raises(InputError, match=f"(?s){words}"):
        load(frame().assign(**change), **options)


def test_nothing_to_learn_from():
    with pytest.raises(InputError, match="no column except the target"):
        load(frame()[["sold"]])
    with pytest.raises(InputError, match="one value in all training rows"):
        load(frame()[["sold"]].assign(x=1.0))
    parts = [Split({"a/b": np.array(["x", "y"])}, np.array([0, 1]))] * 3
    assert list(table("n", "s", parts, "classification", ()).train.x) == ["a_b"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_files(tmp_path, kind):
    path = tmp_path / f"my.{kind}"
    getattr(frame(), f"to_{kind}")(path, index=False)
    data = load_table(kind, path, "sold")
    assert data.name == f"{kind}:my.{kind}"
    np.testing.assert_allclose(
        data.train.x["numbers"], load().train.x["numbers"], rtol=1e-5
    )
    np.testing.assert_array_equal(data.train.x["colour"], load().train.x["colour"])


def test_fields_that_stand_for_a_missing_value(tmp_path):
    path = tmp_path / "my.csv"
    path.write_text("a,b,\n1,x,None\n?,NA,null\n,nan,\n")
    read = read_csv(path)
    assert list(read.columns) == ["a", "b", "column 3"]
    assert read.isna().to_numpy().tolist() == [
        [False, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_a_damaged_parquet_file(tmp_path):
    path = tmp_path / "my.parquet"
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        load_table("parquet", path, "sold")


def test_a_csv_file_without_the_target(tmp_path):
    path = tmp_path / "my.csv.gz"
    path.write_bytes(gzip.compress(frame().to_csv(index=False).encode()))
    with pytest.raises(InputError, match="my.csv.gz has no column 'Sold'.*'sold'"):
        load_table("csv", path, "Sold")


def test_real_tables(real_data):
    fars = load_table("csv", real_data / "fars.csv.xz", "INJURY_SEVERITY")
    assert sum(len(part.y) for part in fars.parts.values()) == 100_968
    assert len(fars.classes) == 8
    assert len(fars.train.x) == 25
    elec = load_table("csv", real_data / "elec.csv.gz", "target")
    assert elec.train.x.shape[1] == 6
