"""SGD, Adadelta, Adamax, Nadam, Ftrl and Lion; runs on every backend."""

import keras
import numpy as np
import pytest
import test_drop_in
from keras import ops
from optimizer_cases import CATALOGUE, name_of
from test_drop_in import float64  # noqa: F401

from keras_adaptive.optimizers import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    Ftrl,
    Lion,
    Nadam,
)

CLASSES = (SGD, Adadelta, Adamax, Nadam, Ftrl, Lion)
NAMESAKES = [c for c in CATALOGUE if c.cls in CLASSES and c.namesake is not None]
# Keras rounds 0.96 to float32, and on PyTorch so does `ops.maximum` its result.
TOLERANCES = {"adamax": 1e-6, "nadam": 1e-6}
GRADIENTS = [0.5, -0.25, 1.0, 0.0, -2.0, 0.125]

namesakes = pytest.mark.parametrize("case", NAMESAKES, ids=name_of)


def assert_close(got, want, rtol=1e-12):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)


def stepped(optimizer, start=1.0, gradients=GRADIENTS):
    """A weight after each gradient."""
    weight = keras.Variable(np.array([start]), dtype="float64")
    seen = []
    for gradient in gradients:
        optimizer.apply([ops.convert_to_tensor([gradient], "float64")], [weight])
        seen.append(ops.convert_to_numpy(weight)[0])
    return np.array(seen)


# In place of Keras's.


@namesakes
def test_arguments_are_keras_s(case):
    test_drop_in.test_arguments_and_defaults_are_keras_s(case)
    test_drop_in.test_arguments_can_be_given_by_position(case)
    test_drop_in.test_loads_keras_s_config(case)


@pytest.mark.parametrize("option", ["plain", "accumulation", "schedule"])
@namesakes
def test_trajectory_is_keras_s(case, option):
    options = test_drop_in.OPTIONS[option]
    got = test_drop_in.trajectory(case.make(**options))
    want = test_drop_in.trajectory(case.make_namesake(**options))
    for g, w in zip(got, want, strict=True):
        assert_close(g, w, TOLERANCES.get(case.name, 1e-11))


# Where they coincide with each other.


def test_sgd_without_momentum_has_no_state():
    assert_close(stepped(SGD(0.125)), 1 - 0.125 * np.cumsum(GRADIENTS))
    assert_close(stepped(SGD(0.125, nesterov=True)), stepped(SGD(0.125)))
    assert not SGD().slots and SGD(momentum=0.5).slots


def test_nesterov_is_one_step_of_momentum_ahead():
    """The weights of Nesterov's are those of plain momentum plus μ v."""
    plain = stepped(SGD(0.125, momentum=0.75))
    velocity = np.diff(plain, prepend=1.0)
    ahead = stepped(SGD(0.125, momentum=0.75, nesterov=True))
    assert_close(ahead, plain + 0.75 * velocity)


def test_adadelta_by_rows_of_one_entry_is_adadelta():
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(5, 4, 1))

    def train(row_wise):
        table = keras.Variable(np.ones((4, 1)), dtype="float64")
        optimizer = Adadelta(1.0, row_wise=row_wise)
        for gradient in gradients:
            optimizer.apply([ops.convert_to_tensor(gradient, "float64")], [table])
        return ops.convert_to_numpy(table)

    assert_close(train(True), train(False))


def test_adadelta_does_not_depend_on_the_scale_of_gradients():
    scaled = 2.0**20 * np.array(GRADIENTS)
    first = stepped(Adadelta(1.0, epsilon=1e-10), gradients=2.0**10 * scaled)
    assert_close(stepped(Adadelta(1.0, epsilon=1e-10), gradients=scaled), first, 1e-9)


def test_adamax_without_memory_takes_the_sign():
    got = stepped(Adamax(0.125, beta_1=0.0, beta_2=0.0, epsilon=1e-30))
    assert_close(got, 1 - 0.125 * np.cumsum(np.sign(GRADIENTS)), 1e-6)


def test_nadam_without_momentum_is_adam():
    arguments = {"beta_1": 0.0, "beta_2": 0.75, "epsilon": 1e-30}
    assert_close(stepped(Nadam(0.125, **arguments)), stepped(Adam(0.125, **arguments)))


def test_lion_moves_by_the_learning_rate():
    moves = np.diff(stepped(Lion(0.125)), prepend=1.0)
    assert_close(np.abs(moves), 0.125)
    for name in ("beta_1", "beta_2"):
        with pytest.raises(ValueError, match=f"Lion: `{name}`.*> 0 and < 1"):
            Lion(**{name: 0.0})


def test_ftrl_without_regularization_is_adagrad():
    ftrl, adagrad = Ftrl(0.5), Adagrad(0.5, epsilon=0.0)
    assert_close(stepped(ftrl, start=0.0), stepped(adagrad, start=0.0))


def test_ftrl_with_a_fixed_rate_is_sgd():
    got = stepped(Ftrl(0.125, learning_rate_power=0.0), start=0.0)
    assert_close(got, stepped(SGD(0.125), start=0.0))


def test_ftrl_leaves_weights_at_exactly_zero():
    small = 0.01 * np.array(GRADIENTS)
    got = stepped(Ftrl(0.5, l1_regularization_strength=0.5), gradients=small)
    assert (got == 0).all()
    got = stepped(Ftrl(0.5, l1_regularization_strength=0.5))
    assert (got[:2] == 0).all() and (got[-2:] != 0).all()


def test_ftrl_may_start_from_nothing():
    got = stepped(Ftrl(0.5, initial_accumulator_value=0.0), gradients=[0.0, 1.0, 0.0])
    assert_close(got, [0.0, -0.5, -0.5])
    assert_close(stepped(Ftrl(0.0), gradients=[1.0, 1.0, 1.0]), [1.0, 1.0, 1.0])


# What the closed forms need, and how exact they are.


@pytest.mark.parametrize(
    ("cls", "arguments", "condition"),
    [
        (Adamax, {"beta_1": 0.9, "beta_2": 0.8}, "beta_1 <= beta_2"),
        (Nadam, {"beta_1": 0.9, "beta_2": 0.8}, r"beta_1 <= sqrt\(beta_2\)"),
        (Ftrl, {"l2_shrinkage_regularization_strength": 0.5}, "without l2_shrinkage"),
        (Ftrl, {"weight_decay": 0.5}, "weight_decay"),
        (Ftrl, {"use_ema": True}, "use_ema"),
    ],
)
def test_without_a_closed_form_updates_are_lazy(cls, arguments, condition):
    assert cls().sparse == "deferred"
    assert cls(**arguments).sparse == "lazy"
    with pytest.raises(ValueError, match=f"{cls.__name__}.*'deferred'.*{condition}"):
        cls(**arguments, sparse="deferred")
