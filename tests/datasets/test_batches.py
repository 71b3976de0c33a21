import keras
import numpy as np
import pytest
from scipy.sparse import csr_matrix

from keras_adaptive.datasets.batches import (
    epoch_order,
    evaluation_batches,
    training_batches,
)
from keras_adaptive.datasets.dataset import Split
from keras_adaptive.errors import InputError


def numpy(part):
    return keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(part, sparse=False))


def test_orders_are_permutations_of_their_own():
    orders = [epoch_order(60, 3, epoch) for epoch in range(3)]
    assert all(sorted(order) == list(range(60)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    np.testing.assert_array_equal(orders[1], epoch_order(60, 3, 1))
    assert (orders[0] != epoch_order(60, 4, 0)).any()


def first_batches(split, count):
    batches = iter(training_batches(split, 16, seed=0))
    return [next(batches) for _ in range(count)]


def test_training_batches_follow_the_orders_without_end(tiny):
    x, y = tiny.train
    x = x.copy()
    x.data[x.indptr[7] : x.indptr[8]] = 0
    x.eliminate_zeros()
    for batch, (features, labels) in enumerate(first_batches(Split(x, y), 12)):
        start = 16 * (batch % 4)
        rows = epoch_order(60, 0, batch // 4)[start : start + 16]
        assert features.shape == (len(rows), 40)
        np.testing.assert_array_equal(numpy(features), x[rows].toarray())
        np.testing.assert_array_equal(labels, y[rows])


def test_sparse_dense_and_named_inputs_see_the_same_rows(tiny):
    x, y = tiny.train
    dense = x.toarray()
    named = {"words": x, "left": dense[:, :20].astype("float64"), "id": np.arange(60)}
    batches = (first_batches(Split(each, y), 5) for each in (x, dense, named))
    for (sparse, _), (plain, _), (parts, labels) in zip(*batches, strict=True):
        np.testing.assert_array_equal(numpy(sparse), plain)
        np.testing.assert_array_equal(numpy(parts["words"]), plain)
        np.testing.assert_array_equal(parts["left"], plain[:, :20])
        assert parts["left"].dtype == "float32"
        np.testing.assert_array_equal(y[parts["id"]], labels)


def test_evaluation_batches_hold_every_row_once_in_order(tiny):
    x, y = tiny.test
    batches = list(evaluation_batches(tiny.test, batch_size=8))
    assert [len(labels) for _, labels in batches] == [8, 8, 8, 6]
    np.testing.assert_array_equal(np.concatenate([b for _, b in batches]), y)
    np.testing.assert_array_equal(numpy(batches[1][0]), x[8:16].toarray())


@pytest.mark.parametrize("batch_size", [15, 60, 64])
def test_batches_of_any_size(tiny, batch_size):
    x, y = tiny.train
    batches = iter(training_batches(tiny.train, batch_size, seed=0))
    for epoch in range(2):
        order = epoch_order(60, 0, epoch)
        for start in range(0, 60, batch_size):
            rows = order[start : start + batch_size]
            features, labels = next(batches)
            np.testing.assert_array_equal(numpy(features), x[rows].toarray())
            np.testing.assert_array_equal(labels, y[rows])


def test_matrices_too_wide_for_batches_are_refused():
    x = csr_matrix(([1.0], ([0], [2**31])), shape=(1, 2**31 + 1))
    with pytest.raises(InputError, match=r"2,147,483,649 columns .* Hash"):
        training_batches(Split(x, np.zeros(1)), 1, seed=0)


def test_no_iterator_waits_for_tuning_at_its_end(tiny):
    # Up to a third of a second, several epochs of a small study.
    batches = training_batches(tiny.train, 4, 0), evaluation_batches(tiny.train)
    assert not any(each.options().autotune.enabled for each in batches)


def test_other_backends_get_the_same_batches(dense, monkeypatch):
    expected = first_batches(dense.train, 9)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    batches = training_batches(dense.train, 16, seed=0)
    assert batches.num_batches is None
    for index, (features, labels) in enumerate(expected):
        np.testing.assert_array_equal(batches[index][0], features)
        np.testing.assert_array_equal(batches[index][1], labels)
    judged = evaluation_batches(dense.test, batch_size=8)
    assert judged.num_batches == 4
    np.testing.assert_array_equal(judged[3][0], dense.test.x[24:])


def test_sparse_data_on_other_backends_are_refused(tiny, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(InputError, match="KERAS_BACKEND=tensorflow"):
        training_batches(tiny.train, 16, seed=0)
