"""Directions m / (√v + ε), whose ε grows relative to √v in the steps a row misses."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_adaptive.optimizers import Adam, Adamax, Nadam, RAdam, Yogi
from keras_adaptive.optimizers.contract import Hyper, Quotient
from keras_adaptive.optimizers.engine.sparse import catch_up

RATE, BETA_1, BETA_2, STEPS = 0.125, 0.875, 1 - 2**-6, 40
FIRST = 9
"""The number of the first skipped step; RAdam's steps are rectified from there on."""

# Keras rounds `ops.maximum` to float32 on PyTorch.
ROUNDING = 1e-6 if keras.backend.backend() == "torch" else 1e-12


def tensor(values):
    return ops.convert_to_tensor(np.asarray(values, "float64"), "float64")


def number(value):
    return np.asarray(ops.convert_to_numpy(value), "float64")


class Steps:
    """The steps of an optimizer without gradient, one after the other."""

    def __init__(self, optimizer, momentum, second):
        self.optimizer = optimizer
        self.state = {
            name: tensor(momentum if name == "momentum" else second)
            for name in optimizer.slots
        }
        self.globals = {"u_product": 0.5} if optimizer.global_slots else {}
        self.before = self.state
        self.step = FIRST - 1

    def next(self):
        """Returns the hyper-parameters of a step and how far it goes."""
        self.step += 1
        hyper = Hyper(self.optimizer, RATE, self.step - 1, "float64")
        if self.globals:
            hyper.global_state = self.globals
            self.globals = self.optimizer.reduce_stats({}, self.globals, hyper)
            hyper.global_state = self.globals
        zero = ops.zeros_like(self.state["momentum"])
        moved, self.state = self.optimizer.rule(zero, self.state, hyper)
        return hyper, number(moved)

    def direction(self):
        """Returns what `catch_up` says of all steps so far."""
        skipped = self.step + 1 - FIRST
        hyper = Hyper(self.optimizer, RATE, self.step, "float64")
        return self.optimizer.catch_up(self.before, tensor([skipped]), hyper)


def drifted(optimizer, roots, momentum=0.25, steps=STEPS):
    """Returns the ways in closed form, without the growth of ε, and step by step."""
    walk = Steps(optimizer, np.full(len(roots), momentum), roots)
    table = {}
    exact = 0.0
    for _ in range(steps):
        hyper, moved = walk.next()
        exact = exact + moved
        drifts = catch_up.drifts_by_kind(
            *optimizer.drift(hyper), optimizer.floor_growth(hyper)
        )
        names = catch_up.columns(False, tuple(drifts), False, False)
        table = table or {n: tensor([catch_up.BEGINNING[n]]) for n in names}
        table = catch_up.advanced(table, True, drifts)
    direction, state = walk.direction()
    for name, value in walk.state.items():
        np.testing.assert_allclose(number(state[name]), number(value), rtol=ROUNDING)
    start = ops.zeros_like(direction.numerator)
    got, _ = catch_up.caught_up(start, None, direction, table)
    size, _ = optimizer.floor_growth(Hyper(optimizer, RATE, FIRST - 1, "float64"))
    growth = tensor(number(size))
    plain = number(table["drift"]) * number(direction.at(growth))
    return -number(got), plain, exact


@pytest.mark.parametrize("cls", [Adam, Adamax, Nadam, RAdam, Yogi])
def test_skipped_steps_are_exact_but_for_the_third_order_of_epsilon(cls):
    second = np.array([1e-12, 1e-2, 1e-1, 1.0, 1e10])
    epsilon = 0.125
    optimizer = cls(RATE, BETA_1, BETA_2, epsilon=epsilon)
    got, plain, exact = drifted(optimizer, second)
    off, off_plain = np.abs(got / exact - 1), np.abs(plain / exact - 1)
    assert off.max() < 0.003
    assert off_plain.max() > 10 * off.max()
    # Where √v or ε is all of the denominator.
    assert off[[0, -1]].max() < 1e-5


@pytest.mark.parametrize("cls", [Adam, Adamax, Nadam, Yogi])
def test_a_single_skipped_step_is_exact(cls):
    optimizer = cls(RATE, BETA_1, BETA_2, epsilon=0.125)
    got, _, exact = drifted(optimizer, np.array([1e-8, 1e-2, 1.0]), steps=1)
    np.testing.assert_allclose(got, exact, rtol=ROUNDING)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.9, 0.9), (0.9, 0.81), (0.0, 0.0)])
def test_rows_stay_finite_whatever_the_betas(betas):
    """With β₁ > β₂ the arithmetic mean of the growth has no bound."""
    optimizer = Adam(RATE, *betas, epsilon=1e-7)
    got, plain, exact = drifted(optimizer, np.array([1e-20, 1e-2, 1e2]), steps=900)
    assert np.isfinite(got).all()
    assert (np.abs(got) <= np.abs(plain) * (1 + 1e-9)).all()
    if betas[0] ** 2 < betas[1]:
        np.testing.assert_allclose(got, exact, rtol=0.2)


def test_without_steps_nothing_moves():
    start = tensor([[1.0, 2.0]])
    direction = Quotient(start, start, tensor(1e-7))
    for kinds in (catch_up.KINDS, catch_up.KINDS[:1]):
        names = catch_up.columns(False, kinds, False, False)
        coefficients = {n: tensor([catch_up.BEGINNING[n]]) for n in names}
        got, _ = catch_up.caught_up(start, None, direction, coefficients)
        np.testing.assert_array_equal(number(got), number(start))
