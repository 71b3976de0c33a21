import math

import keras
import numpy as np
import pytest

from keras_adaptive.study import training
from keras_adaptive.study.batches import SparseBatches, epoch_order
from keras_adaptive.study.errors import StudyError
from keras_adaptive.study.training import Contender, Protocol, plan, train

PROTOCOL = Protocol(epochs=3, batch_size=16, seeds=(0,))


@pytest.fixture
def runs(monkeypatch):
    """The labels and values of every training batch fed, a list for each run."""
    fed = []

    class Watched(SparseBatches):
        def __init__(self, x, y, batch_size, seed):
            super().__init__(x, y, batch_size, seed)
            if seed is not None:
                fed.append([])

        def __getitem__(self, index):
            batch = super().__getitem__(index)
            if self.seed is not None:
                fed[-1].append(batch[0].indices.numpy().tolist())
            return batch

    monkeypatch.setattr(training, "SparseBatches", Watched)
    return fed


def test_contenders_are_paired_by_seed(tiny, build_model, runs):
    started = []

    def watched(seed):
        model = build_model(seed)
        started.append([weight.copy() for weight in model.get_weights()])
        return model

    def run(optimizer, seed):
        keras.utils.set_random_seed(len(started))
        contender = Contender("x", "keras", optimizer, 0.1)
        train(watched, contender, tiny, PROTOCOL, seed)

    run(keras.optimizers.SGD, seed=5)
    run(keras.optimizers.Adam, seed=5)
    run(keras.optimizers.Adam, seed=6)
    assert len(runs[0]) >= 3 * 4
    assert runs[0] == runs[1] != runs[2]
    kernels = [weights[0] for weights in started]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[1] != kernels[2]).any()


def losses_in_order(model, data, order):
    """The loss of each batch of 16 rows, taken in an order."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for start in range(0, len(order), 16):
        rows = order[start : start + 16]
        logits = model(data.x[rows].toarray())
        yield float(loss(data.y[rows], logits))


def test_each_epoch_has_an_order_of_its_own_and_losses_are_true(
    tiny, build_model, make_sgd
):
    still = make_sgd(1e-12)
    result = train(build_model, still, tiny, PROTOCOL, seed=0)
    losses = [value for _, value in result.series("train_loss")]
    candidates = [
        list(losses_in_order(build_model(0), tiny.train, epoch_order(60, 0, epoch)))
        for epoch in range(6)
    ]
    used = []
    for epoch in range(3):
        seen = losses[4 * epoch : 4 * epoch + 4]
        used += [
            at for at, one in enumerate(candidates) if np.allclose(seen, one, rtol=1e-4)
        ]
    assert len(used) == 3
    assert np.diff(used).tolist() == [1, 1]


def test_batches_hold_the_rows(tiny):
    batches = SparseBatches(*tiny.train, batch_size=16, seed=None)
    dense = tiny.train.x.toarray()
    for index in range(len(batches)):
        x, y = batches[index]
        rows = slice(16 * index, 16 * index + 16)
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(x, sparse=False)),
            dense[rows],
        )
        np.testing.assert_array_equal(y, tiny.train.y[rows])


def test_other_backends_are_refused(tiny, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(StudyError, match="KERAS_BACKEND=tensorflow"):
        SparseBatches(*tiny.train, batch_size=16, seed=0)


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
