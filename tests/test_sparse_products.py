"""Products with sparse matrices, and sums by them, against numpy."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_adaptive.optimizers.engine.tensorflow import csr_products as sparse_products
from keras_adaptive.optimizers.engine.tensorflow.csr_products import (
    pairs,
    product,
    segment_sum,
    transposed_product,
)

pytestmark = pytest.mark.tensorflow

HEIGHT, WIDTH = 4, 3
DTYPES = [tf.float16, *sparse_products.DTYPES]
entries = st.lists(
    st.tuples(st.integers(0, HEIGHT - 1), st.integers(0, WIDTH - 1)), max_size=9
)
quickly = settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(params=[0, 2**16], ids=["compressed", "coordinates"], autouse=True)
def way(request, monkeypatch):
    monkeypatch.setattr(sparse_products, "MANY", request.param)


def whole(places, dtype):
    """Small integers, whose sums are exact in every dtype."""
    numbers = np.random.default_rng(0).integers(-8, 9, places)
    return tf.constant(numbers, dtype)


@quickly
@given(places=entries.map(sorted), dtype=st.sampled_from(DTYPES))
def test_products(places, dtype):
    indices = np.reshape(np.array(places, np.int64), (-1, 2))
    matrix = tf.SparseTensor(indices, whole(len(places), dtype), (HEIGHT, WIDTH))
    dense = np.zeros((HEIGHT, WIDTH), dtype.as_numpy_dtype)
    np.add.at(dense, tuple(indices.T), matrix.values.numpy())
    right, left = (whole((n, 2), dtype) for n in (WIDTH, HEIGHT))
    got = product(matrix, right)
    np.testing.assert_array_equal(got, dense @ right.numpy())
    got = transposed_product(matrix, left)
    np.testing.assert_array_equal(got, dense.T @ left.numpy())
    assert got.dtype == dtype


@quickly
@given(
    segments=st.lists(st.integers(0, HEIGHT - 1), min_size=1, max_size=12),
    dtype=st.sampled_from(DTYPES),
    shape=st.sampled_from([(), (2,), (2, 3)]),
)
def test_segment_sum(segments, dtype, shape):
    values = whole((len(segments), *shape), dtype)
    want = np.zeros((HEIGHT, *shape), dtype.as_numpy_dtype)
    np.add.at(want, segments, values.numpy())
    count = tf.constant(HEIGHT, tf.int64)
    got = segment_sum(values, tf.constant(segments, tf.int64), count)
    np.testing.assert_array_equal(got, want)
    assert got.dtype == dtype


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_sum_keeps_what_is_not_finite_in_its_segment(bad):
    segments = tf.constant([0, 1, 0], tf.int64)
    got = segment_sum(tf.constant([[1.0], [bad], [2.0]]), segments, np.int64(2))
    np.testing.assert_array_equal(got, [[3.0], [bad]])


@pytest.mark.parametrize(("width", "compressed"), [(2, 0), (3, 1)])
def test_many_numbers_go_another_way(width, compressed, monkeypatch):
    monkeypatch.setattr(sparse_products, "MANY", 9)
    found = []
    way = sparse_products._compressed
    monkeypatch.setattr(
        sparse_products, "_compressed", lambda m: found.append(m) or way(m)
    )
    got = transposed_product(tf.sparse.eye(3), tf.ones((3, width)))
    assert len(found) == compressed
    np.testing.assert_array_equal(got, np.ones((3, width)))


def test_pairs():
    rows, columns = tf.range(3, dtype=tf.int64), tf.constant([5, 6, 7], tf.int64)
    np.testing.assert_array_equal(pairs(rows, columns), [[0, 5], [1, 6], [2, 7]])
    largest = tf.constant([2**31 - 1], tf.int64)
    np.testing.assert_array_equal(pairs(largest, largest), [[2**31 - 1] * 2])
