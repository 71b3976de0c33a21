"""Deferred updates take tables whole where that costs less."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from optimizer_cases import CLOSED_FORMS, name_of

from keras_adaptive.optimizers import Adam
from keras_adaptive.optimizers.engine.sparse import row_updates as sparse

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

HEIGHT, WIDTH = 40, 3
COUNTS = (2, 3, 30, 25, 2, 40, 1, 2, 6, 4)


@pytest.fixture
def whole(monkeypatch):
    """A function that sets when tables are updated whole."""

    def set_limits(small_table=0, rows_per_id=0):
        monkeypatch.setattr(sparse, "SMALL_TABLE", small_table)
        monkeypatch.setattr(sparse, "ROWS_PER_ID", rows_per_id)

    return set_limits


def step_of(optimizer, table):
    def step(ids, values):
        shape = tf.constant([HEIGHT, WIDTH], tf.int64)
        optimizer.apply([tf.IndexedSlices(values, ids, shape)], [table])

    ids = tf.TensorSpec([None], tf.int64)
    values = tf.TensorSpec([None, WIDTH], tf.float64)
    return tf.function(step, input_signature=[ids, values], autograph=False)


def train(optimizer):
    rng = np.random.default_rng(5)
    table = keras.Variable(rng.normal(size=(HEIGHT, WIDTH)), dtype="float64")
    step = step_of(optimizer, table)
    for count in COUNTS:
        ids = rng.integers(0, HEIGHT, count)
        step(tf.constant(ids), tf.constant(rng.normal(size=(count, WIDTH))))
    optimizer.finalize_variable_values([table])
    return table.numpy()


def types(optimizer):
    table = keras.Variable(np.zeros((HEIGHT, WIDTH)), dtype="float64")
    graph = step_of(optimizer, table).get_concrete_function().graph
    return {operation.type for operation in graph.get_operations()}


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"use_ema": True}])
@pytest.mark.parametrize("case", CLOSED_FORMS, ids=name_of)
def test_by_turns_whole_and_by_row_is_dense(case, options, whole):
    want = train(case.make(sparse="dense", **options))
    whole(rows_per_id=4)
    got = train(case.make(sparse="deferred", **options))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-9 * np.ptp(want))


def test_a_small_table_is_dense_to_the_bit(whole):
    want = train(Adam(0.1, sparse="dense"))
    whole(small_table=HEIGHT * WIDTH)
    optimizer = Adam(0.1)
    np.testing.assert_array_equal(train(optimizer), want)
    assert not optimizer._engine.rows.kept.by_name


def test_a_larger_table_is_not_updated_whole(whole):
    whole(small_table=HEIGHT * WIDTH - 1)
    assert "ResourceScatterUpdate" in types(Adam(0.1))
    whole(small_table=HEIGHT * WIDTH)
    assert "ResourceScatterUpdate" not in types(Adam(0.1))


def test_lazy_rows_stand_still_in_small_tables_too(whole):
    whole(small_table=HEIGHT * WIDTH, rows_per_id=HEIGHT)
    assert "ResourceScatterUpdate" in types(Adam(0.1, sparse="lazy"))


def test_both_ways_are_in_the_graph_if_the_number_of_ids_is_not_known(whole):
    whole(rows_per_id=8)
    assert "If" in types(Adam(0.1))
