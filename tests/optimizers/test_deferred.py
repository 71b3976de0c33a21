"""Rows that make up for missed steps follow the dense trajectory."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizer_cases import CLOSED_FORMS, Ramp, name_of
from training import distance

from keras_adaptive.optimizers import Adam
from keras_adaptive.optimizers.engine.sparse import catch_up as deferred

pytestmark = pytest.mark.tensorflow

HEIGHT, WIDTH, COUNT, STEPS = 101, 2, 4, 40
OPTIONS = {
    "schedule": {"learning_rate": Ramp(), "weight_decay": 0.1, "clipnorm": 1.0},
    "average": {
        "use_ema": True,
        "ema_momentum": 0.9,
        "ema_overwrite_frequency": 9,
        "learning_rate": Ramp(),
        "weight_decay": 0.1,
        "gradient_accumulation_steps": 3,
    },
}
DRIFTING = tuple({case.cls: case for case in CLOSED_FORMS if case.drifts}.values())


def batches(steps=STEPS, height=HEIGHT, count=COUNT):
    """Some rows come often, some once, some never."""
    rng = np.random.default_rng(0)
    return [
        (
            np.minimum(rng.zipf(1.3, count) - 1, height - 3),
            rng.normal(size=(count, WIDTH)),
        )
        for _ in range(steps)
    ]


def trajectory(optimizer, how="graph", steps=STEPS, flush=()):
    """The table after each step, and last the final one."""
    rng = np.random.default_rng(1)
    table = keras.Variable(rng.normal(size=(HEIGHT, WIDTH)), dtype="float64")

    def step(ids, values):
        shape = tf.constant([HEIGHT, WIDTH])
        optimizer.apply([tf.IndexedSlices(values, ids, shape)], [table])

    compiled = step
    if how != "eager":
        compiled = tf.function(step, autograph=False, jit_compile=how == "xla")
    seen = []
    for number, (ids, values) in enumerate(batches(steps)):
        compiled(tf.constant(ids), tf.constant(values))
        if number in flush:
            optimizer.flush()
        seen.append(table.numpy().copy())
    optimizer.finalize_variable_values([table])
    return np.array([*seen, table.numpy()])


@functools.cache
def dense(case, option, steps=STEPS):
    return trajectory(case.make(sparse="dense", **OPTIONS[option]), "eager", steps)


def assert_close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("case", CLOSED_FORMS, ids=name_of)
def test_equals_dense(case, option):
    """Rows do when they are updated, all of them in the end."""
    options = OPTIONS[option]
    got = trajectory(case.make(sparse="deferred", **options))
    want = dense(case, option)
    assert_close(got[-1], want[-1])
    period = options.get("gradient_accumulation_steps", 1)
    for last in range(period - 1, STEPS, period):
        group = batches()[last + 1 - period : last + 1]
        touched = np.concatenate([ids for ids, _ in group])
        assert_close(got[last][touched], want[last][touched])


@pytest.mark.parametrize("case", CLOSED_FORMS, ids=name_of)
def test_some_rows_are_behind_in_between(case):
    # Else the test above would show nothing.
    got = trajectory(case.make(sparse="deferred", weight_decay=0.1), "eager", 12)
    lazy = trajectory(case.make(sparse="lazy", weight_decay=0.1), "eager", 12)
    assert np.max(np.abs(got[-1] - got[-2])) > 1e-4
    assert np.max(np.abs(got[-1] - lazy[-1])) > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("case", DRIFTING, ids=name_of)
def test_equals_dense_under_xla(case):
    got = trajectory(case.make(sparse="deferred", **OPTIONS["average"]), "xla")
    assert_close(got[-1], dense(case, "average")[-1])


@pytest.mark.parametrize("case", CLOSED_FORMS, ids=name_of)
def test_flushing_changes_nothing_but_the_time(case):
    flush = (10, 11, 17)
    optimizer = case.make(sparse="deferred", **OPTIONS["average"])
    got = trajectory(optimizer, "eager", 24, flush)
    want = dense(case, "average", 24)
    for step in (*flush, -1):
        assert_close(got[step], want[step])


@pytest.mark.slow
@pytest.mark.parametrize("case", DRIFTING, ids=name_of)
def test_equals_dense_when_the_history_wraps_around(case, monkeypatch):
    monkeypatch.setattr(deferred, "HISTORY", 32)
    got = trajectory(case.make(sparse="deferred", **OPTIONS["average"]), steps=80)
    assert_close(got[-1], dense(case, "average", 80)[-1])


def test_lazy_average_follows_standing_rows():
    # In lazy mode rows stand still, and the average of a standing row is closed.
    def finals(mode):
        case = next(case for case in CLOSED_FORMS if not case.drifts)
        return trajectory(case.make(sparse=mode, use_ema=True), "eager", 20)[-1]

    assert_close(finals("lazy"), finals("dense"))


@pytest.mark.parametrize("count", [3, 8, 15, 16])
def test_no_row_is_further_behind_than_documented(count):
    height, steps = 100, 1200
    table = keras.Variable(np.zeros((height, 1)), dtype="float32")
    optimizer = Adam(sparse="deferred")

    @tf.function(autograph=False)
    def step(ids):
        values = tf.ones((count, 1))
        optimizer.apply(
            [tf.IndexedSlices(values, ids, tf.constant([height, 1]))], [table]
        )

    worst = 0
    for _ in range(steps):
        step(tf.range(count))
        behind = (
            int(optimizer.iterations) - optimizer._engine.rows.kept.clocks[0].numpy()
        )
        worst = max(worst, behind.max())
    assert 0 < worst <= 32 * -(-height // count)


@pytest.mark.parametrize("accumulation", [None, 3])
def test_rows_in_turn_are_flushed_every_few_steps(accumulation):
    height, count = 30, 4
    table = keras.Variable(np.zeros((height, 1)), dtype="float32")
    optimizer = Adam(sparse="deferred", gradient_accumulation_steps=accumulation)
    ids = tf.range(height - count, height)
    gradient = tf.IndexedSlices(tf.ones((count, 1)), ids, tf.constant([height, 1]))
    for step in range(1, 300):
        optimizer.apply([gradient], [table])
        clock = optimizer._engine.rows.kept.clocks[0].numpy()
        turns = step // 32
        current = np.arange(count * (turns - 1), count * turns) % height
        if step % 32 == 0:
            np.testing.assert_array_equal(clock[current], step)
        assert int(optimizer._engine.rows.kept.cursors[0]) == count * turns % height


def test_zipf_logistic_regression_ends_within_two_percent_of_dense():
    features, steps, batch, length = 3000, 1500, 32, 20
    rng = np.random.default_rng(0)
    chances = 1 / np.arange(1, features + 1)
    ids = rng.choice(features, (steps, batch, length), p=chances / chances.sum())
    truth = rng.normal(size=features)
    labels = (truth[ids].sum(-1) + rng.logistic(size=(steps, batch)) > 0) * 1.0
    all_ids, all_labels = tf.constant(ids, tf.int32), tf.constant(labels)

    def train(mode):
        weights = keras.Variable(np.zeros(features), dtype="float64")
        optimizer = Adam(0.01, sparse=mode)
        optimizer.build([weights])

        def step(ids, labels):
            logits = tf.reduce_sum(tf.gather(weights.value, ids), axis=-1)
            slope = (tf.sigmoid(logits) - labels)[:, None] / batch
            values = tf.reshape(tf.tile(slope, [1, length]), [-1])
            shape = tf.constant([features])
            gradient = tf.IndexedSlices(values, tf.reshape(ids, [-1]), shape)
            optimizer.apply([gradient], [weights])

        @tf.function
        def run():
            for i in tf.range(steps):
                step(all_ids[i], all_labels[i])

        run()
        optimizer.finalize_variable_values([weights])
        return weights.numpy()

    want = train("dense")

    def off(mode):
        return np.linalg.norm(train(mode) - want) / np.linalg.norm(want)

    assert off("deferred") < 0.02
    assert off("lazy") > 0.10


numbers = st.floats(0.0, 1.0)


@settings(max_examples=60, deadline=None)
@given(
    calls=st.lists(
        st.tuples(st.booleans(), st.floats(-2, 2), numbers, numbers, numbers),
        min_size=1,
        max_size=8,
    ),
    start=st.integers(0, 7),
    drifts=st.booleans(),
    decays=st.booleans(),
    averages=st.booleans(),
)
def test_coefficients_equal_simulation(calls, start, drifts, decays, averages):
    calls = calls[start:]
    w, x = np.array([[1.5, -0.5]]), np.array([[0.7, 2.0]])
    direction = np.array([[-1.0, 3.0]])
    kinds = deferred.KINDS[:drifts]
    names = deferred.columns(False, kinds, decays, averages)
    table = {n: tf.constant([deferred.BEGINNING[n]], tf.float64) for n in names}
    want_w, want_x, power = w, x, 1.0
    for update, rate, ratio, decay, momentum in calls:
        decay, rate = decay * decays, rate * drifts
        table = deferred.advanced(
            table,
            tf.constant(update),
            dict.fromkeys(kinds, (rate, ratio)),
            decay,
            momentum,
        )
        if update:
            power *= ratio
            want_w = want_w * (1 - decay) - rate * power * direction
        want_x = momentum * want_x + (1 - momentum) * want_w
    coefficients = {n: c for n, c in table.items() if not n.startswith("power")}
    got_w, got_x = deferred.caught_up(
        tf.constant(w),
        tf.constant(x) if averages else None,
        tf.constant(direction) if drifts else None,
        coefficients,
    )
    np.testing.assert_allclose(got_w, want_w, rtol=1e-11, atol=1e-12)
    if averages:
        np.testing.assert_allclose(got_x, want_x, rtol=1e-11, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    missed=st.lists(st.integers(0, 30), min_size=1, max_size=5),
    momentum=numbers,
    begins=st.booleans(),
)
def test_standing_average_equals_simulation(missed, momentum, begins):
    began = begins & (np.array(missed) > 0)
    got = deferred.standing_average(
        tf.constant(missed), tf.constant(began), momentum, "float64"
    )
    for place, (calls, starts) in enumerate(zip(missed, began, strict=True)):
        average, weight = 5.0, 2.0
        for call in range(calls):
            m = 0.0 if starts and call == 0 else momentum
            average = m * average + (1 - m) * weight
        mixed = got["old"][place] * 5.0 + got["standing"][place] * weight
        assert distance([mixed.numpy()], [np.array(average)]) < 1e-12
