"""Adafactor and CAME; runs on every backend."""

import keras
import numpy as np
import pytest
import test_drop_in
from keras import ops
from optimizer_cases import CATALOGUE
from test_catalogue import assert_close, differ, trained
from test_drop_in import float64  # noqa: F401

from keras_adaptive.optimizers import CAME, Adafactor
from keras_adaptive.optimizers.catalogue.shared import factored_moments as factored

CASE = next(case for case in CATALOGUE if case.cls is Adafactor)


def numbers(cls, shape) -> int:
    """How many numbers the optimizer keeps of a variable."""
    optimizer = cls()
    optimizer.build([keras.Variable(np.zeros(shape))])
    (state,) = optimizer._engine.states
    return sum(int(np.prod(slot.shape)) for slot in state.slots.values())


def test_a_matrix_takes_rows_plus_columns():
    assert numbers(Adafactor, (64, 32)) == 64 + 32
    assert numbers(CAME, (64, 32)) == 64 * 32 + 2 * (64 + 32)
    assert numbers(Adafactor, (5, 64, 32)) == 5 * (64 + 32)
    assert numbers(Adafactor, (64,)) == 64 + 1
    assert numbers(Adafactor, ()) == 1 + 1


@pytest.mark.parametrize("shape", [(), (4,), (4, 3), (2, 4, 3)], ids=str)
def test_moment_of_a_product_is_exact(shape):
    rng = np.random.default_rng(0)
    squares = np.ones(shape) + rng.random(shape)
    if len(shape) > 1:
        squares = squares[..., :1] * squares[..., :1, :]
    state = {
        name: ops.zeros(slot.shape(shape), "float64")
        for name, slot in factored.factored_slots("v").items()
    }
    decay = ops.convert_to_tensor(0.75, "float64")
    got, new = factored.moment("v", state, ops.convert_to_tensor(squares), decay)
    np.testing.assert_allclose(ops.convert_to_numpy(got), 0.25 * squares, rtol=1e-12)
    assert {n: tuple(v.shape) for n, v in new.items()} == {
        n: tuple(v.shape) for n, v in state.items()
    }


# Adafactor in place of Keras's.


def test_arguments_are_keras_s():
    test_drop_in.test_arguments_and_defaults_are_keras_s(CASE)
    test_drop_in.test_arguments_can_be_given_by_position(CASE)
    test_drop_in.test_loads_keras_s_config(CASE)


@pytest.mark.parametrize("option", ["plain", "decay", "schedule"])
def test_trajectory_is_keras_s(option):
    options = test_drop_in.OPTIONS[option]
    got = test_drop_in.trajectory(CASE.make(**options))
    want = test_drop_in.trajectory(CASE.make_namesake(**options))
    # Keras's means pass through float32 on JAX and PyTorch.
    assert_close(got, want, 1e-6)


def test_relative_step_caps_the_learning_rate():
    def make(rate, relative):
        return CASE.make(learning_rate=rate, relative_step=relative)

    # The sixth and last step is below 1/√6 with one of them.
    assert_close(trained(make(0.375, True)), trained(make(0.375, False)))
    capped = trained(make(2.0, True))
    assert_close(capped, trained(make(1.0, True)))
    assert differ(capped, trained(make(2.0, False)))


def test_came_without_memory_is_adafactor_without_memory():
    """Without confidence (û = m) and without the weights' size (ε₂ above it)."""
    came = CAME(2**-6, beta_1=0.0, beta_2=0.0, beta_3=0.0, epsilon_2=1.0)
    options = {"beta_2_decay": 0.0, "epsilon_2": 8.0, "relative_step": False}
    assert_close(trained(came), trained(Adafactor(2**-9, **options)), 1e-6)


@pytest.mark.parametrize("cls", [Adafactor, CAME])
def test_sparse_modes_other_than_dense_are_refused(cls):
    assert cls().sparse == "dense"
    for mode in ("lazy", "deferred"):
        with pytest.raises(ValueError, match=f"{cls.__name__}: .*row_wise=True"):
            cls(sparse=mode)
