"""Products with matrices in compressed rows, and sums by them, against numpy."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_adaptive import csr

HEIGHT, WIDTH = 4, 3
entries = st.lists(
    st.tuples(st.integers(0, HEIGHT - 1), st.integers(0, WIDTH - 1)), max_size=9
)
quickly = settings(max_examples=50, deadline=None)


def whole(places):
    """Small integers, whose sums are exact in every dtype."""
    return np.random.default_rng(0).integers(-8, 9, places)


@quickly
@given(places=entries.map(sorted), dtype=st.sampled_from(csr.DTYPES))
def test_products(places, dtype):
    rows, columns = np.reshape(np.array(places, np.int64), (-1, 2)).T
    values = whole(len(places)).astype(dtype.as_numpy_dtype)
    dense = np.zeros((HEIGHT, WIDTH), values.dtype)
    np.add.at(dense, (rows, columns), values)
    shape = tf.constant([HEIGHT, WIDTH], tf.int64)
    matrix = csr.CompressedRows(rows, columns, tf.constant(values), shape)
    right, left = (whole((n, 2)).astype(values.dtype) for n in (WIDTH, HEIGHT))
    np.testing.assert_array_equal(matrix @ right, dense @ right)
    np.testing.assert_array_equal(matrix.transposed @ left, dense.T @ left)


@quickly
@given(
    segments=st.lists(st.integers(0, HEIGHT - 1), min_size=1, max_size=12),
    dtype=st.sampled_from(csr.DTYPES),
    shape=st.sampled_from([(), (2,), (2, 3)]),
)
def test_segment_sum(segments, dtype, shape):
    values = whole((len(segments), *shape)).astype(dtype.as_numpy_dtype)
    want = np.zeros((HEIGHT, *shape), values.dtype)
    np.add.at(want, segments, values)
    count = tf.constant(HEIGHT, tf.int64)
    got = csr.segment_sum(tf.constant(values), tf.constant(segments, tf.int64), count)
    np.testing.assert_array_equal(got, want)
    assert got.dtype == dtype


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_sum_keeps_what_is_not_finite_in_its_segment(bad):
    values = tf.constant([[1.0], [bad], [2.0]])
    segments = tf.constant([0, 1, 0], tf.int64)
    got = csr.segment_sum(values, segments, tf.constant(2, tf.int64))
    np.testing.assert_array_equal(got, [[3.0], [bad]])


def test_pairs():
    rows, columns = tf.range(3, dtype=tf.int64), tf.constant([5, 6, 7], tf.int64)
    np.testing.assert_array_equal(csr.pairs(rows, columns), [[0, 5], [1, 6], [2, 7]])
