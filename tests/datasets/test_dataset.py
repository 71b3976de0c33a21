import numpy as np
import pytest

from keras_adaptive.datasets.dataset import (
    Dataset,
    Split,
    encode_labels,
)
from keras_adaptive.datasets.splitting import stratified_split, three_parts
from keras_adaptive.errors import (
    InputError,
    MissingExtraError,
    needs_extra,
)


def test_labels_become_classes_in_sorted_order():
    classes, codes = encode_labels([7, -1, 7, 3], "here")
    assert classes == ("-1", "3", "7")
    np.testing.assert_array_equal(codes, [2, 0, 2, 1])


@pytest.mark.parametrize(
    ("labels", "words"), [(["x", "x"], "only the class 'x'"), ([], "no rows")]
)
def test_fewer_than_two_classes_is_an_error(labels, words):
    with pytest.raises(InputError, match=f"my.csv holds {words}.*at least two"):
        encode_labels(labels, "my.csv")


def test_split_is_a_partition_with_every_class_in_the_rest():
    labels = np.repeat([0, 1, 2], [50, 30, 3])
    test, validation, train = stratified_split(labels, [0.1, 0.1], seed=4)
    np.testing.assert_array_equal(
        np.sort(np.concatenate([test, validation, train])), np.arange(83)
    )
    assert set(labels[train]) == {0, 1, 2}
    assert np.bincount(labels[test]).tolist() == [5, 3, 1]
    assert np.bincount(labels[validation]).tolist() == [5, 3, 1]


def test_split_depends_on_the_seed_alone():
    labels = np.repeat([0, 1], 50)
    first, again, other = (
        stratified_split(labels, [0.2], seed)[0].tolist() for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def changed(part, x=None, y=None, **others):
    """A dataset of eight rows with something changed in one part."""
    rng = np.random.default_rng(0)
    features = rng.random((8, 3))
    labels = np.arange(8) % 2
    splits = {name: Split(features, labels) for name in ("train", "validation", "test")}
    kept = splits[part]
    splits[part] = Split(kept.x if x is None else x, kept.y if y is None else y)
    return Dataset("mine", "here", **splits, **others)


def test_digest_sees_every_value_and_name(tiny):
    plain = changed("test")
    assert plain.digest == changed("test").digest
    x, y = plain.test.x.copy(), plain.test.y.copy()
    x[3, 1] += 1e-9
    y[0] = 1 - y[0]
    others = [
        changed("test", x=x),
        changed("test", y=y),
        changed("train", x=plain.train.x[::-1].copy()),
        changed("test", classes=("a", "b")),
        changed("test", task="regression"),
    ]
    assert len({data.digest for data in [plain, *others]}) == 6


def test_digest_of_named_inputs_and_of_sparse_ones(tiny):
    x = {"a": np.arange(8), "b": np.arange(8)[::-1].copy()}
    turned = {"a": x["b"], "b": x["a"]}
    y = np.arange(8) % 2
    one, other = (
        Dataset("n", "s", *[Split(each, y)] * 3).digest for each in (x, turned)
    )
    assert one != other
    moved = tiny.test.x.copy()
    moved.indices = moved.indices[::-1].copy()
    parts = tiny.train, tiny.validation, Split(moved, tiny.test.y)
    assert Dataset("n", "s", *parts, classes=("a", "b")).digest != tiny.digest


@pytest.mark.parametrize(
    ("part", "values", "words"),
    [
        ("test", {"y": np.array([0, 1] * 3)}, "has 8 rows and 6 labels"),
        ("test", {"y": np.array([0.0, np.nan] * 4)}, "labels: 4 values are not finite"),
        ("train", {"y": np.array([0.5] * 8)}, "are not classes.*task='regression'"),
        ("train", {"y": np.array([0, -1] * 4)}, "are not classes"),
        ("train", {"y": np.zeros(8, int)}, "only the class 0.*at least two"),
        ("test", {"y": np.array(list("ab") * 4)}, "are not classes"),
        ("test", {"x": np.full((8, 3), np.inf)}, "24 values .* first in row 0"),
        ("test", {"x": np.zeros((8, 2))}, r"Expected the same in every part"),
        ("test", {"x": {"a": np.zeros((8, 3))}}, r"Expected the same in every part"),
        ("test", {"x": np.full((8, 3), "a", object)}, "Python objects"),
        ("test", {"x": [[1, 2, 3]] * 8}, "Expected a NumPy array or a scipy CSR"),
    ],
)
def test_bad_parts(part, values, words):
    with pytest.raises(InputError, match=f"(?s){words}"):
        changed(part, **values)


def test_more_labels_than_classes():
    with pytest.raises(InputError, match="has the label 1, but there are 1 classes"):
        changed("test", classes=("only",))


def test_an_unknown_task():
    with pytest.raises(InputError, match="task is 'ranking'"):
        changed("test", task="ranking")


def test_classes_without_names_are_numbered():
    assert changed("test", y=np.array([0, 2] * 4)).classes == ("0", "1", "2")


def test_an_official_test_part_stays_whole():
    rows = Split(np.arange(100), np.arange(100) % 2)
    official = Split(np.arange(7), np.arange(7) % 2)
    train, validation, test = three_parts(rows, official, "classification", seed=0)
    assert test is official
    assert sorted([*train.x, *validation.x]) == list(range(100))
    assert np.bincount(validation.y).tolist() == [5, 5]


def test_labels_of_a_regression_are_scaled_by_the_training_part():
    y = np.random.default_rng(0).normal(50, 10, 200)
    train, validation, test = three_parts(
        Split(np.arange(200), y), None, "regression", seed=1
    )
    assert abs(train.y.mean()) < 1e-6 and abs(train.y.std() - 1) < 1e-6
    by_hand = (y[test.x] - y[train.x].mean()) / y[train.x].std()
    np.testing.assert_allclose(test.y, by_hand, rtol=1e-5, atol=1e-6)


def test_a_regression_without_differences():
    with pytest.raises(InputError, match="label 3, so there is nothing to learn"):
        three_parts(Split(np.arange(20), np.full(20, 3.0)), None, "regression", seed=0)


def test_taking_rows_of_named_inputs():
    split = Split({"a": np.arange(4), "b": np.eye(4)}, np.arange(4))
    taken = split.take(np.array([2, 0]))
    assert taken.x["a"].tolist() == taken.y.tolist() == [2, 0]
    np.testing.assert_array_equal(taken.x["b"], np.eye(4)[[2, 0]])


def test_an_empty_part_is_an_error(tiny):
    nothing = Split(tiny.test.x[:0], tiny.test.y[:0])
    with pytest.raises(InputError, match="test part of here has no rows"):
        Dataset("n", "here", tiny.train, tiny.validation, nothing)


def test_a_missing_library_names_the_extra():
    with (
        pytest.raises(MissingExtraError, match=r"keras-adaptive\[study\]"),
        needs_extra("study"),
    ):
        import no_such_library  # noqa: F401
