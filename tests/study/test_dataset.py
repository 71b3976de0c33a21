import numpy as np
import pytest

from keras_adaptive.study.datasets.dataset import (
    SparseDataset,
    Split,
    encode_labels,
    stratified_split,
)
from keras_adaptive.study.errors import (
    MissingExtraError,
    StudyError,
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
    with pytest.raises(StudyError, match=f"my.csv holds {words}.*at least two"):
        encode_labels(labels, "my.csv")


def test_split_is_a_partition_with_every_class_in_the_rest():
    labels = np.repeat([0, 1, 2], [50, 30, 3])
    test, validation, train = stratified_split(labels, [0.1, 0.1], seed=4)
    np.testing.assert_array_equal(
        np.sort(np.concatenate([test, validation, train])), np.arange(83)
    )
    assert set(labels[train]) == {0, 1, 2}
    assert np.bincount(labels[test]).tolist() == [5, 3]


def test_split_depends_on_the_seed_alone():
    labels = np.repeat([0, 1], 50)
    first, again, other = (
        stratified_split(labels, [0.2], seed)[0].tolist() for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_digest_sees_a_changed_label(tiny):
    y = tiny.test.y.copy()
    y[0] = 1 - y[0]
    changed = SparseDataset(
        tiny.name,
        tiny.source,
        tiny.classes,
        tiny.train,
        tiny.validation,
        Split(tiny.test.x, y),
    )
    assert changed.digest != tiny.digest


def test_an_empty_part_is_an_error(tiny):
    nothing = Split(tiny.test.x[:0], tiny.test.y[:0])
    with pytest.raises(StudyError, match="test part of here has no rows"):
        SparseDataset("n", "here", ("a", "b"), tiny.train, tiny.validation, nothing)


def test_a_missing_library_names_the_extra():
    with (
        pytest.raises(MissingExtraError, match=r"keras-adaptive\[study\]"),
        needs_extra("study"),
    ):
        import no_such_library  # noqa: F401
