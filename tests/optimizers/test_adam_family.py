"""Adam's relatives at the ends of their hyper-parameters; runs on every backend."""

import keras
import numpy as np
import pytest
from keras import ops
from optimizer_cases import Ramp
from test_drop_in import trajectory

from keras_adaptive.optimizers import (
    ADOPT,
    AdaBelief,
    Adam,
    AdEMAMix,
    Hyper,
    LaProp,
    RAdam,
    Yogi,
)
from keras_adaptive.optimizers.catalogue.ademamix import (
    warmed_up_alpha,
    warmed_up_beta_3,
)

CLASSES = (RAdam, AdaBelief, Yogi, LaProp, ADOPT, AdEMAMix)
RATE, BETA_1, BETA_2 = 2**-6, 0.875, 1 - 2**-8
ADAM = {"learning_rate": RATE, "beta_1": BETA_1, "beta_2": BETA_2}
# Adam's epsilon is at another place than that of most of them.
NO_EPSILON = {"epsilon": 1e-30}


@pytest.fixture(autouse=True)
def float64():
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


def assert_same(got, want, rtol=1e-10):
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=rtol, atol=rtol)


def steps(optimizer, gradients, dtype="float64"):
    """The steps of a vector or a matrix after each of its gradients."""
    variable = keras.Variable(np.zeros(np.shape(gradients[0])), dtype=dtype)
    path = [np.zeros(variable.shape)]
    for gradient in gradients:
        optimizer.apply([ops.convert_to_tensor(gradient, dtype)], [variable])
        path.append(np.array(ops.convert_to_numpy(variable)))
    return -np.diff(path, axis=0)


def slot(optimizer, name):
    return np.array(ops.convert_to_numpy(optimizer._engine.states[0].slots[name]))


@pytest.mark.parametrize("cls", CLASSES)
def test_row_wise(cls):
    """One number a row, which in rows of one entry makes no difference."""
    gradients = np.random.default_rng(0).normal(size=(4, 3, 1))
    want = steps(cls(**ADAM), gradients)
    assert_same(steps(cls(**ADAM, row_wise=True), gradients), want)
    optimizer = cls(**ADAM, row_wise=True)
    steps(optimizer, np.repeat(gradients, 5, axis=2))
    slots = [v for s in optimizer._engine.states for v in s.slots.values()]
    shapes = [tuple(v.shape) for v in slots]
    assert shapes.count((3, 1)) == 1
    assert shapes.count((3, 5)) == len(shapes) - 1


# RAdam


def average_length(beta, step):
    return 2 / (1 - beta) - 1 - 2 * step * beta**step / (1 - beta**step)


def test_radam_is_rectified_adam_after_five_steps():
    gradients = np.random.default_rng(0).normal(size=(12, 5))
    t = np.arange(1, 13)
    length, longest = average_length(BETA_2, t), 2 / (1 - BETA_2) - 1
    assert (length <= 5).sum() == 5
    share = (length - 4) * (length - 2) * longest / length
    share = np.sqrt(share[5:] / ((longest - 4) * (longest - 2)))
    adam = steps(Adam(**ADAM), gradients)[5:]
    assert_same(steps(RAdam(**ADAM), gradients)[5:], share[:, None] * adam, 1e-8)


def test_radam_is_momentum_where_the_average_is_short():
    gradients = np.random.default_rng(0).normal(size=(9, 5))
    t = np.arange(1, 10)
    assert average_length(0.625, 1e3) < 5
    mean = np.zeros(5)
    for step, number, gradient in zip(
        steps(RAdam(RATE, BETA_1, 0.625), gradients), t, gradients, strict=True
    ):
        mean = BETA_1 * mean + (1 - BETA_1) * gradient
        np.testing.assert_allclose(step, RATE * mean / (1 - BETA_1**number), rtol=1e-8)


@pytest.mark.parametrize("beta_2", [0.0, 0.99, 0.999, 0.9999])
def test_radam_is_not_misled_by_float32(beta_2):
    """The length at the fifth step is below 5 by less than float32 can tell naively."""
    gradients = np.full((9, 1), 2.0**10)
    options = {"beta_1": 0.0, "beta_2": beta_2, "epsilon": 0.0}
    got = steps(RAdam(1.0, **options), gradients, "float32")[:, 0]
    assert (got[:5] > 1000).all()
    if beta_2 > 0:
        want = steps(RAdam(1.0, **options), gradients)[:, 0]
        np.testing.assert_allclose(got[5:], want[5:], rtol=5e-2)


# AdaBelief


def test_adabelief_without_momentum_is_gradient_descent():
    # The mean is the gradient itself, and s has nothing but the ε of each step.
    gradients = np.random.default_rng(0).normal(size=(8, 5))
    epsilon = 2**-6
    optimizer = AdaBelief(RATE, beta_1=0.0, beta_2=BETA_2, epsilon=epsilon)
    rate = RATE / (np.sqrt(epsilon / (1 - BETA_2)) + epsilon)
    assert_same(steps(optimizer, gradients), rate * gradients, 1e-8)


def test_adabelief_s_step_after_a_surprise_is_shorter_than_adam_s():
    expected, surprising = [[1.0]] * 30, [[1.0]] * 29 + [[-1.0]]

    def share(cls):
        return steps(cls(**ADAM), surprising)[-1] / steps(cls(**ADAM), expected)[-1]

    assert 0 < share(AdaBelief) < 0.6 < share(Adam)


# Yogi


def test_yogi_moves_by_the_square_of_the_gradient():
    gradients = [[0.0, 0.125, 8.0], [2.0, 0.5, -0.5]]
    optimizer = Yogi(**ADAM, initial_accumulator_value=0.25)
    steps(optimizer, gradients)
    moved = [2.0**2, 0.5**2 - 0.125**2, 8.0**2 - 0.5**2]
    velocity = slot(optimizer, "velocity")
    assert_same(velocity, 0.25 + (1 - BETA_2) * np.array(moved))


# LaProp


@pytest.mark.parametrize("rate", [RATE, Ramp()])
def test_laprop_without_momentum_is_adam_without_momentum(rate):
    options = {"learning_rate": rate, "beta_1": 0.0, "beta_2": BETA_2, **NO_EPSILON}
    assert_same(trajectory(LaProp(**options)), trajectory(Adam(**options)), 1e-6)


def test_laprop_of_a_constant_gradient_steps_by_the_rate():
    got = steps(LaProp(**ADAM, **NO_EPSILON), [[3.0, -0.5]] * 6)
    assert_same(got, [[RATE, -RATE]] * 6, 1e-6)


def test_laprop_with_a_warmup_from_zero():
    warmup = keras.optimizers.schedules.PolynomialDecay(0.0, 4, RATE)
    got = steps(LaProp(warmup, **NO_EPSILON), [[3.0, -0.5]] * 6)
    assert (got[0] == 0).all()
    assert_same(got[4], [RATE, -RATE], 1e-6)


# ADOPT


def test_adopt_begins_with_the_second_call():
    optimizer = ADOPT(**ADAM)
    assert (steps(optimizer, [[2.0, -0.5, 0.0]]) == 0).all()
    assert_same(slot(optimizer, "velocity"), [4.0, 0.25, 0.0])


def test_adopt_divides_by_the_gradients_before_and_clips():
    gradients = [[2.0, 2.0, 0.0], [2.0, -64.0, 1.0], [2.0, 0.0, 0.0]]
    normalised = np.array([[0, 0, 0], [1, -1, 1], [1, 0, 0]])
    mean, want = np.zeros(3), []
    for value in normalised:
        mean = BETA_1 * mean + (1 - BETA_1) * value
        want.append(RATE * mean)
    assert_same(steps(ADOPT(**ADAM), gradients), want, 1e-6)


# AdEMAMix


def test_ademamix_without_the_slow_momentum_is_adam():
    got = trajectory(AdEMAMix(**ADAM, alpha=0.0, **NO_EPSILON))
    assert_same(got, trajectory(Adam(**ADAM, **NO_EPSILON)), 1e-9)


def test_ademamix_after_its_warmup_is_as_without():
    warm = AdEMAMix(**ADAM, alpha_warmup=1, beta_3_warmup=1)
    assert_same(trajectory(warm), trajectory(AdEMAMix(**ADAM)), 1e-6)


@pytest.mark.parametrize("beta_1", [0.0, BETA_1])
def test_ademamix_warms_up_weight_and_half_life(beta_1):
    optimizer = AdEMAMix(
        beta_1=beta_1, beta_3=0.99, alpha=4.0, alpha_warmup=8, beta_3_warmup=8
    )

    def half_life(beta):
        return np.log(0.5) / np.log(beta) if beta > 0 else 0.0

    for step, share in ((0, 0.125), (3, 0.5), (7, 1.0), (99, 1.0)):
        optimizer.iterations.assign(step)
        hyper = Hyper(optimizer, 0.1, optimizer.iterations, "float64")
        alpha = float(warmed_up_alpha(8, hyper))
        assert alpha == pytest.approx(4 * share, rel=1e-6)
        want = (1 - share) * half_life(beta_1) + share * half_life(0.99)
        got = half_life(float(warmed_up_beta_3(8, hyper)))
        assert got == pytest.approx(want, rel=1e-5)
