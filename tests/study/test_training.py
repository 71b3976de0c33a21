import math

import keras
import numpy as np
import pytest

from keras_adaptive.study import training
from keras_adaptive.study.batches import epoch_orders, sparse_batches
from keras_adaptive.study.datasets import Dataset, Split
from keras_adaptive.study.errors import StudyError
from keras_adaptive.study.training import Contender, Protocol, plan, train

PROTOCOL = Protocol(epochs=3, batch_size=16, seeds=(0,))


@pytest.fixture
def runs(monkeypatch):
    """The training batches of each run, as they are fed."""
    fed = []

    def watched(*args):
        batches = sparse_batches(*args)
        if len(args[3]) == PROTOCOL.epochs:
            fed.append([(x.indices.numpy().tolist(), list(y)) for x, y in batches])
        return batches

    monkeypatch.setattr(training, "sparse_batches", watched)
    return fed


def test_contenders_are_paired_by_seed(tiny, build_model, runs):
    started = []

    def watched(seed):
        model = build_model(seed)
        started.append([weight.copy() for weight in model.get_weights()])
        return model

    def run(optimizer, seed):
        keras.utils.set_random_seed(len(started))
        contender = Contender("x", "keras", optimizer, 1e-12)
        return train(watched, contender, tiny, PROTOCOL, seed)

    results = [
        run(keras.optimizers.SGD, seed=5),
        run(keras.optimizers.Adam, seed=5),
        run(keras.optimizers.Adam, seed=6),
    ]
    assert runs[0] == runs[1] != runs[2]
    kernels = [weights[0] for weights in started]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[1] != kernels[2]).any()
    losses = [[loss for _, loss in each.series("train_loss")] for each in results]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert not np.allclose(losses[1], losses[2], rtol=1e-3)


def test_fit_sees_the_batches_in_order_and_losses_are_true(tiny, build_model, make_sgd):
    still = make_sgd(1e-12)
    result = train(build_model, still, tiny, PROTOCOL, seed=0)
    model = build_model(0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = []
    for order in epoch_orders(60, 3, seed=0):
        for start in range(0, 60, 16):
            rows = order[start : start + 16]
            logits = model(tiny.train.x[rows].toarray())
            expected.append(float(loss(tiny.train.y[rows], logits)))
    losses = [value for _, value in result.series("train_loss")]
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


def test_orders_are_permutations_of_their_own():
    orders = epoch_orders(60, 3, seed=3)
    assert all(sorted(order) == list(range(60)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    np.testing.assert_array_equal(orders, epoch_orders(60, 3, seed=3))
    assert (orders[0] != epoch_orders(60, 3, seed=4)[0]).any()


def test_batches_hold_the_rows(tiny):
    x, y = tiny.train
    x = x.copy()
    x.data[x.indptr[7] : x.indptr[8]] = 0
    x.eliminate_zeros()
    orders = epoch_orders(60, 2, seed=0)
    fed = list(sparse_batches(x, y, 16, orders))
    assert len(fed) == 2 * 4
    for batch, (features, labels) in enumerate(fed):
        start = 16 * (batch % 4)
        rows = orders[batch // 4][start : start + 16]
        assert features.shape == (len(rows), 40)
        dense = keras.ops.convert_to_tensor(features, sparse=False)
        np.testing.assert_array_equal(dense, x[rows].toarray())
        np.testing.assert_array_equal(labels, y[rows])


def test_rows_with_nothing_in_them_can_be_trained_on(tiny, build_model, make_sgd):
    nothing = Split(tiny.train.x * 0, tiny.train.y)
    nothing.x.eliminate_zeros()
    empty = Dataset("e", "e", nothing, nothing, nothing)
    result = train(build_model, make_sgd(0.1), empty, PROTOCOL, seed=0)
    assert result.diverged_at is None


def test_other_backends_are_refused(tiny, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(StudyError, match="KERAS_BACKEND=tensorflow"):
        sparse_batches(*tiny.train, 16, [np.arange(60)])


def test_curve_and_times(tiny, build_model, make_sgd):
    calls = []
    result = train(
        build_model, make_sgd(1.0), tiny, PROTOCOL, 0, on_step=lambda: calls.append(1)
    )
    assert len(calls) == 3 * 4
    validation = result.series("val_accuracy")
    assert [point.step for point, _ in validation] == [4, 8, 12]
    assert validation[-1][1] > 0.9
    assert [point.step for point, _ in result.series("train_loss")] == list(
        range(1, 13)
    )
    seconds = [point.seconds for point in result.curve]
    assert seconds == sorted(seconds)
    assert 0 < result.step_seconds < result.first_epoch_seconds
    assert result.test_accuracy > 0.9
    assert result.diverged_at is None
    assert {rate for _, rate in result.series("learning_rate")} == {1.0}


def test_losses_are_means_since_the_point_before(
    tiny, build_model, make_sgd, monkeypatch
):
    still = make_sgd(1e-12)
    fine = train(build_model, still, tiny, PROTOCOL, seed=0).series("train_loss")
    monkeypatch.setattr(training, "POINTS_PER_EPOCH", 2)
    coarse = train(build_model, still, tiny, PROTOCOL, seed=0).series("train_loss")
    assert [point.step for point, _ in coarse] == [2, 4, 6, 8, 10, 12]
    one, two, three, last = (value for _, value in fine[:4])
    np.testing.assert_allclose(coarse[0][1], (one + two) / 2, rtol=1e-5)
    np.testing.assert_allclose(coarse[1][1], (16 * three + 12 * last) / 28, rtol=1e-5)


def test_one_epoch_has_no_time_per_step(tiny, build_model, make_sgd):
    once = Protocol(epochs=1, batch_size=16, seeds=(0,))
    assert math.isnan(train(build_model, make_sgd(0.1), tiny, once, 0).step_seconds)


def test_divergence_is_recorded_and_ends_the_run(tiny, build_model, make_sgd):
    result = train(build_model, make_sgd(1e38), tiny, PROTOCOL, seed=0)
    assert result.diverged_at is not None
    assert result.curve[-1].step < 12
    assert result.test_accuracy == -math.inf
    assert result.test_loss == math.inf


def test_schedules_show_their_current_rate(tiny, build_model):
    def make(rate):
        return keras.optimizers.SGD(
            keras.optimizers.schedules.ExponentialDecay(rate, 1, 0.5)
        )

    result = train(
        build_model, Contender("sgd", "keras", make, 1.0), tiny, PROTOCOL, seed=0
    )
    rates = [rate for _, rate in result.series("learning_rate")]
    assert rates[0] > rates[5] > rates[-1]


def test_seeds_are_the_outer_loop(make_sgd):
    pair = [make_sgd(1), make_sgd(2)]
    runs = list(plan(pair, Protocol(1, 1, seeds=(3, 4))))
    assert [(c.learning_rate, seed) for c, seed in runs] == [
        (1, 3),
        (2, 3),
        (1, 4),
        (2, 4),
    ]
