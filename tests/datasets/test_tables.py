import gzip

import numpy as np
import pandas as pd
import pytest

from keras_adaptive.datasets.csv_files import load_table, read_csv
from keras_adaptive.datasets.dataset import Split
from keras_adaptive.datasets.encoding import encoder
from keras_adaptive.datasets.frames import load_frame, table
from keras_adaptive.datasets.splitting import three_parts
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
    read = read_csv(path).frame
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


def csv_of(tmp_path, columns, name="my.csv"):
    path = tmp_path / name
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


NINETEEN = [1234567890123456700 + number for number in range(20)]


@pytest.mark.parametrize("gaps", [0, 1])
def test_ids_of_19_digits_stay_apart(tmp_path, gaps):
    ids = [*map(str, NINETEEN * 20)]
    ids[:gaps] = [""] * gaps
    path = csv_of(tmp_path, {"user": ids, "y": [0, 1] * 200})
    values = read_csv(path).frame["user"].dropna()
    assert sorted(set(values)) == NINETEEN
    data = load_table("csv", path, "y", categories=["user"])
    seen = np.concatenate([part.x["user"] for part in data.parts.values()])
    assert len(np.unique(seen)) == 20 + gaps


def test_ids_that_no_integer_holds_are_text(tmp_path):
    many = [f"{number:030d}" for number in range(4)] * 10
    path = csv_of(
        tmp_path, {"id": many, "zip": ["00501", "501"] * 20, "y": [0, 1] * 20}
    )
    data = load_table("csv", path, "y", categories=["id", "zip"])
    assert len(np.unique(data.train.x["id"])) == 4
    assert len(np.unique(data.train.x["zip"])) == 2


def test_ids_that_were_rounded_before(tmp_path):
    path = tmp_path / "my.parquet"
    rows = pd.DataFrame({"user": np.array(NINETEEN * 2, float), "y": [0, 1] * 20})
    rows.to_parquet(path)
    with pytest.raises(InputError, match="'user' is named as a category.*rounded"):
        load_table("parquet", path, "y", categories=["user"])
    rows.assign(user=pd.array(NINETEEN * 2, "Int64")).to_parquet(path)
    data = load_table("parquet", path, "y", categories=["user"])
    assert len(np.unique(data.train.x["user"])) == 20


@pytest.mark.parametrize(
    "marker", ["N/A", "n/a", "null", "NULL", "None", "#N/A", " ", "", "NaN", "?"]
)
def test_a_marker_among_numbers_is_a_missing_number(tmp_path, marker):
    numbers = [*map(str, np.random.default_rng(0).normal(size=200))]
    expected = [*map(float, numbers)]
    numbers[7], expected[7] = marker, np.nan
    path = csv_of(tmp_path, {"x": numbers, "y": [0, 1] * 100})
    read = read_csv(path)
    np.testing.assert_array_equal(read.frame["x"].to_numpy(float), expected)
    data = load_table("csv", path, "y")
    assert data.train.x.shape[1] in (1, 2)
    told = any("1 in 'x'" in note and repr(marker) in note for note in data.remarks())
    assert told == bool(marker.strip())


def test_a_marker_among_words_is_a_category(tmp_path):
    path = csv_of(tmp_path, {"x": ["None", "a", "b", ""] * 10, "y": [0, 1, 1, 0] * 10})
    assert set(read_csv(path).frame["x"].dropna()) == {"None", "a", "b"}


def test_text_among_numbers_names_column_line_and_value(tmp_path):
    numbers = [*map(str, range(100)), "two\nlines", *map(str, range(99))]
    columns = {"note": numbers, "x": ["1"] * 150 + ["high"] + ["2"] * 49}
    path = csv_of(tmp_path, columns | {"y": [0, 1] * 100})
    with pytest.raises(InputError, match="line 103: the column 'note'.*'two.nlines'"):
        read_csv(path)
    with pytest.raises(InputError, match="line 153: the column 'x'.*'high'.*--cat"):
        read_csv(path, {"note": "words"})
    kept = read_csv(path, {"note": "words", "x": "category"}).frame
    assert set(kept["x"]) == {"1", "2", "high"}


def test_text_in_a_column_of_test_numbers(tmp_path):
    train = {"a": np.arange(40.0), "c": [1, 2] * 20, "y": [0, 1] * 20}
    path = csv_of(tmp_path, train)
    bad = csv_of(tmp_path, {"a": ["0.5", "low"], "c": [1, 2], "y": [0, 1]}, "test.csv")
    with pytest.raises(InputError, match=r"test.csv, line 3: the column 'a'.*'low'"):
        load_table("csv", path, "y", bad)
    for name in ("train", "test"):
        rows = pd.DataFrame(train)
        rows.assign(
            a=rows["a"].map(str) + "x" if name == "test" else rows["a"]
        ).to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(InputError, match="row 1: the column 'a' holds.*'0.0x'"):
        load_table(
            "parquet", tmp_path / "train.parquet", "y", tmp_path / "test.parquet"
        )


def test_test_rows_are_read_like_training_rows(tmp_path):
    """In another order, with gaps and with words where training has whole numbers."""
    train = {"a": np.arange(40.0), "c": [1, 2] * 20, "w": ["1", "x"] * 20}
    path = csv_of(tmp_path, train | {"y": [0, 1] * 20})
    test = {
        "y": [1, 0, 1],
        "w": ["1", "1", "x"],
        "c": ["2", "new", ""],
        "a": [1, "", 3],
    }
    tested = csv_of(tmp_path, test, "test.csv")
    data = load_table("csv", path, "y", tested, categories=["c"])
    assert data.test.y.tolist() == [1, 0, 1]
    assert data.test.x["c"][1:].tolist() == [0, 0] and data.test.x["c"][0] > 0
    one, _, other = data.test.x["w"]
    assert {one, other} == {1, 2}


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators(tmp_path, separator):
    path = tmp_path / "my.csv"
    frame().to_csv(path, index=False, sep=separator)
    with pytest.raises(InputError, match="separated by (semicolons|tabs|bars).*commas"):
        load_table("csv", path, "sold")


def test_utf_16(tmp_path):
    path = tmp_path / "my.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-16")
    with pytest.raises(InputError, match="iconv -f utf-16"):
        read_csv(path)


def test_nine_positives_in_a_thousand_are_in_every_part(tmp_path):
    y = np.zeros(1000, int)
    y[:9] = 1
    path = csv_of(tmp_path, {"x": np.arange(1000), "y": y})
    data = load_table("csv", path, "y")
    assert [int(part.y.sum()) for part in data.parts.values()] == [7, 1, 1]
    assert "Always answering '0' has a test accuracy of 0.99." in data.remarks()


@pytest.mark.parametrize(
    ("rows", "parts"), [(1, [1, 0, 0]), (2, [1, 0, 1]), (3, [1] * 3)]
)
def test_a_class_with_fewer_rows_than_parts_is_told(rows, parts):
    y = np.zeros(100, int)
    y[:rows] = 1
    data = load(pd.DataFrame({"x": np.arange(100), "y": y}), target="y")
    assert [int(part.y.sum()) for part in data.parts.values()] == parts
    told = " ".join(data.remarks())
    for name, count in zip(("validation", "test"), parts[1:], strict=True):
        assert (f"The {name} part has no row of 1 classes: '1'" in told) == (not count)
