"""Grams and AdaBound, Adam with other signs and other rates."""

import keras
import numpy as np
import pytest
from test_catalogue import assert_close, gradients, trained

from keras_adaptive.optimizers import AdaBound, Adam, Grams

BETAS = {"beta_1": 0.75, "beta_2": 0.875}
BACKEND = keras.backend.backend()
# `ops.clip` and `ops.maximum` pass through float32 on PyTorch.
RTOL = 1e-6 if BACKEND == "torch" else 1e-9


def final(optimizer, steps=None):
    return trained(optimizer, steps, "float64")


def moves(optimizer, steps):
    """The steps one by one; no gradient depends on where it has got to."""
    ends = [final(optimizer(), steps[:count]) for count in range(len(steps) + 1)]
    return [
        [new - old for old, new in zip(before, after, strict=True)]
        for before, after in zip(ends[:-1], ends[1:], strict=True)
    ]


def test_grams_goes_as_far_as_adam_along_the_gradient():
    def adam():
        return Adam(0.25, **BETAS)

    def grams():
        return Grams(0.25, epsilon=1e-7, **BETAS)

    steps = gradients(4)
    for grads, got, want in zip(
        steps, moves(grams, steps), moves(adam, steps), strict=True
    ):
        along = [-np.sign(g) * np.abs(w) for g, w in zip(grads, want, strict=True)]
        assert_close(got, along, 1e-12)


@pytest.mark.tensorflow
def test_deferred_grams_needs_nothing_of_its_betas():
    from test_deferred import OPTIONS, trajectory

    options = {"beta_1": 0.9375, "beta_2": 0.5, **OPTIONS["average"]}
    assert Grams(**options).sparse == "deferred"
    got = trajectory(Grams(sparse="deferred", **options))[-1]
    want = trajectory(Grams(sparse="dense", **options), "eager")[-1]
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("largest", [False, True], ids=["", "amsbound"])
def test_adabound_begins_as_adam(largest):
    got = AdaBound(0.25, gamma=1e-12, epsilon=1e-7, amsbound=largest, **BETAS)
    want = Adam(0.25, amsgrad=largest, **BETAS)
    assert_close(final(got), final(want), RTOL)


def ended(rates):
    """Where SGD ends whose momentum is a mean."""
    weights, momentum = final(AdaBound(), []), 0
    for rate, grads in zip(rates, gradients(), strict=True):
        momentum = [
            0.75 * m + 0.25 * g for m, g in zip(momentum or [0] * 3, grads, strict=True)
        ]
        weights = [w - rate * m for w, m in zip(weights, momentum, strict=True)]
    return weights


def test_adabound_ends_as_sgd():
    got = AdaBound(0.25, final_learning_rate=0.125, gamma=1e12, **BETAS)
    assert_close(final(got), ended([0.125] * 6), RTOL)


def test_a_schedule_scales_the_final_rate_of_adabound():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.5, 0.25])
    options = {"final_learning_rate": 0.125, "gamma": 1e12, **BETAS}
    rates = np.array([0.125] * 3 + [0.0625] * 3)
    assert_close(final(AdaBound(schedule, **options)), ended(rates), RTOL)
    got = AdaBound(schedule, base_learning_rate=0.25, **options)
    assert_close(final(got), ended(2 * rates), RTOL)


def test_a_warm_up_from_zero_needs_a_base_learning_rate():
    warm_up = keras.optimizers.schedules.PolynomialDecay(0.0, 4, 0.5)
    with pytest.raises(ValueError, match="begins at 0.* Pass `base_learning_rate`"):
        AdaBound(warm_up)
    assert AdaBound(warm_up, base_learning_rate=0.5).base_learning_rate == 0.5


def test_the_base_learning_rate_is_that_of_the_beginning():
    optimizer = AdaBound(0.5)
    optimizer.learning_rate = 0.25
    again = AdaBound.from_config(optimizer.get_config())
    assert float(again.learning_rate) == 0.25
    assert again.base_learning_rate == 0.5
