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
def seen(monkeypatch):
    """What each run of a test started from and saw."""
    runs = []

    class Watched(SparseBatches):
        def _order(self):
            order = super()._order()
            if self.seed is not None:
                runs[-1]["orders"].append(order.tolist())
            return order

    def watched(build_model):
        def build(seed):
            model = build_model(seed)
            weights = [weight.copy() for weight in model.get_weights()]
            runs.append({"weights": weights, "orders": []})
            return model

        return build

    monkeypatch.setattr(training, "SparseBatches", Watched)
    return runs, watched


def test_contenders_are_paired_by_seed(tiny, build_model, seen):
    runs, watched = seen
    for optimizer in (keras.optimizers.SGD, keras.optimizers.Adam):
        contender = Contender("x", "keras", optimizer, 0.1)
        keras.utils.set_random_seed(len(runs))
        train(watched(build_model), contender, tiny, PROTOCOL, seed=5)
    train(watched(build_model), contender, tiny, PROTOCOL, seed=6)
    first, second, other = runs
    assert first["orders"] == second["orders"] != other["orders"]
    for one, two, three in zip(*(run["weights"] for run in runs), strict=True):
        np.testing.assert_array_equal(one, two)
        assert one.ndim == 1 or (one != three).any()


def test_batches_are_reshuffled_every_epoch_and_fed_in_that_order(tiny, build_model):
    fed = []

    class Fed(SparseBatches):
        def __getitem__(self, index):
            fed.append((self.epoch, index))
            return super().__getitem__(index)

    batches = Fed(*tiny.train, batch_size=16, seed=3)
    model = build_model(0)
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    model.fit(batches, epochs=3, verbose=0)
    for epoch in range(3):
        assert [i for e, i in fed if e == epoch][-4:] == [0, 1, 2, 3]
    orders = [epoch_order(60, 3, epoch).tolist() for epoch in range(3)]
    assert sorted(orders[0]) == list(range(60))
    assert orders[0] != orders[1] != orders[2]


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


def test_training_losses_are_means_since_the_point_before(tiny, build_model, make_sgd):
    still = make_sgd(1e-12)
    result = train(build_model, still, tiny, PROTOCOL, seed=0)
    losses = [value for _, value in result.series("train_loss")]
    model = build_model(0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = []
    for epoch in range(3):
        order = epoch_order(60, 0, epoch)
        for start in range(0, 60, 16):
            rows = order[start : start + 16]
            logits = model(tiny.train.x[rows].toarray())
            expected.append(float(loss(tiny.train.y[rows], logits)))
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


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
