"""Coalescing, queues and blocks, against numpy."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_adaptive.optimizers.engine.tensorflow import rows

pytestmark = pytest.mark.tensorflow

HEIGHT = 6
id_lists = st.lists(st.integers(0, HEIGHT - 1), min_size=1, max_size=12)
quickly = settings(max_examples=50, deadline=None)


@tf.function(jit_compile=True)
def coalesce_under_xla(ids, values):
    coalesced = rows.coalesce(ids, values, HEIGHT, "table")
    return coalesced.ids, coalesced.values


def summed(ids, values):
    total = np.zeros((HEIGHT, *values.shape[1:]), values.dtype)
    np.add.at(total, ids, values)
    return total


@quickly
@given(
    ids=id_lists,
    kind=st.sampled_from([np.int32, np.int64]),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    shape=st.sampled_from([(), (2,), (2, 3)]),
)
def test_coalesce_sums_equal_ids(ids, kind, dtype, shape):
    ids = np.array(ids, kind)
    # Sums of small integers are exact in every dtype.
    values = np.random.default_rng(0).integers(-8, 9, (len(ids), *shape)).astype(dtype)
    got = rows.coalesce(tf.constant(ids), tf.constant(values), HEIGHT, "table")
    assert sorted(got.ids.numpy()) == sorted(set(ids.tolist()))
    assert got.values.dtype == dtype
    total = rows.dense(got, (HEIGHT, *shape))
    np.testing.assert_array_equal(total, summed(ids, values))


@quickly
@given(ids=st.lists(st.integers(0, HEIGHT - 1), min_size=8, max_size=8))
def test_coalesce_sums_equal_ids_under_xla(ids):
    ids = np.array(ids)
    values = np.random.default_rng(0).integers(-8, 9, (len(ids), 2)).astype(float)
    got_ids, got = (x.numpy() for x in coalesce_under_xla(ids, values))
    used = got_ids < HEIGHT
    assert sorted(got_ids[used]) == sorted(set(ids.tolist()))
    assert set(got_ids[~used].tolist()) <= {HEIGHT}
    np.testing.assert_array_equal(summed(got_ids[used], got[used]), summed(ids, values))


def test_distinct_ids_are_known_from_the_graph():
    seen = {}
    table = tf.Variable(tf.zeros((HEIGHT, 2)))

    @tf.function(autograph=False)
    def look(ids):
        unique, places = tf.unique(ids)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.gather(table, unique))
        ways = {
            "given": ids,
            "unique": unique,
            "places": places,
            "reshaped": tf.reshape(unique, [-1]),
            "of a gradient": tape.gradient(loss, table).indices,
            "shifted": unique // 2,
        }
        seen.update((way, rows.are_distinct(ids)) for way, ids in ways.items())

    look.get_concrete_function(tf.TensorSpec([None], tf.int64))
    distinct = {way for way, known in seen.items() if known}
    assert distinct == {"unique", "reshaped", "of a gradient"}
    assert not rows.are_distinct(tf.unique(tf.constant([1, 1]))[0])  # no graph


def queue_variables():
    return (
        tf.Variable(tf.zeros(HEIGHT + 1, tf.int64)),
        tf.Variable(tf.zeros(HEIGHT, tf.bool)),
        tf.Variable(tf.constant(0, tf.int64)),
    )


@quickly
@given(batches=st.lists(st.sets(st.integers(0, HEIGHT - 1)), max_size=6))
def test_pending_rows_are_drained_once_in_order(batches):
    queue = queue_variables()
    for _ in range(2):
        want = []
        for batch in batches:
            rows.add_pending(tf.constant([*batch], tf.int64), *queue)
            want += [i for i in batch if i not in want]
        assert int(queue[2]) == len(want)
        assert rows.drain_pending(*queue).numpy().tolist() == want
        assert int(queue[2]) == 0 and not queue[1].numpy().any()


@pytest.mark.slow
def test_pending_rows_under_xla():
    queue = queue_variables()

    @tf.function(jit_compile=True)
    def add(ids):
        rows.add_pending(ids, *queue)

    @tf.function(jit_compile=True)
    def drain():
        return rows.drain_pending(*queue)

    for _ in range(2):
        # `HEIGHT` is an unused place.
        for batch in ([4, 1, HEIGHT], [1, 0, HEIGHT], [5, HEIGHT, HEIGHT]):
            add(tf.constant(batch, tf.int64))
        assert drain().numpy().tolist() == [4, 1, 0, 5, HEIGHT, HEIGHT]
        assert int(queue[2]) == 0 and not queue[1].numpy().any()


@pytest.mark.parametrize("how", ["eager", "graph", "xla"])
@pytest.mark.parametrize("block", [1, 3, 4, 10, 11, 12])
def test_blocks_cover_every_row_once(block, how, monkeypatch):
    height = 11
    monkeypatch.setattr(rows, "BLOCK", block)
    seen = tf.Variable(tf.zeros(height + 1, tf.int64))
    largest = tf.Variable(tf.constant(0, tf.int64))

    def visit(ids):
        seen.scatter_add(tf.IndexedSlices(tf.ones_like(ids), ids))
        largest.assign(tf.maximum(largest, tf.size(ids, tf.int64)))

    def run():
        rows.for_each_block(height, visit)

    if how != "eager":
        run = tf.function(run, autograph=False, jit_compile=how == "xla")
    run()
    assert seen.numpy()[:height].tolist() == [1] * height
    assert int(largest) == min(block, height)


@quickly
@given(
    height=st.integers(1, 9),
    data=st.data(),
)
def test_next_block_goes_around(height, data):
    sizes = data.draw(st.lists(st.integers(0, height), max_size=6))
    cursor = tf.Variable(tf.constant(0, tf.int64))
    turn = []
    for size in sizes:
        turn += rows.next_block(cursor, tf.constant(size), height).numpy().tolist()
    assert turn == [i % height for i in range(sum(sizes))]
    assert int(cursor) == sum(sizes) % height
