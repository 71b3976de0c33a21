"""Lamb, LARS and NovoGrad, whose steps go by the norms of whole variables."""

import numpy as np
import pytest
from test_catalogue import (
    apply,
    assert_close,
    gradients,
    trained,
    values,
    variables,
)

from keras_adaptive.optimizers import LARS, Adam, Lamb, NovoGrad

DECAY, RATE = 0.125, 0.25
CLASSES = (Lamb, LARS, NovoGrad)


def final(optimizer, steps=None):
    return trained(optimizer, steps, "float64")


def start():
    return final(Lamb(), [])


def simulated(step):
    """The variables after `step(gradient, weights, state, t)` in NumPy, for each t."""
    ends = []
    for i, weights in enumerate(start()):
        state = {}
        for t, grads in enumerate(gradients(), 1):
            weights = weights - step(grads[i], weights, state, t)
        ends.append(weights)
    return ends


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("mode", ["deferred", "lazy"])
def test_only_dense(cls, mode):
    assert cls().sparse == "dense"
    with pytest.raises(ValueError, match=f"{cls.__name__}.*norms of whole variables"):
        cls(sparse=mode)


def test_lamb_is_adam_in_proportion_to_the_weights():
    beta_1, beta_2, epsilon = 0.75, 0.875, 2**-4

    def step(g, w, state, t):
        state["m"] = beta_1 * state.get("m", 0) + (1 - beta_1) * g
        state["v"] = beta_2 * state.get("v", 0) + (1 - beta_2) * g**2
        v = state["v"] / (1 - beta_2**t)
        u = state["m"] / (1 - beta_1**t) / (np.sqrt(v) + epsilon) + DECAY * w
        return RATE * np.linalg.norm(w) / np.linalg.norm(u) * u

    got = final(Lamb(RATE, beta_1, beta_2, epsilon, weight_decay=DECAY))
    assert_close(got, simulated(step), 1e-11)


def lengths(optimizer, steps):
    return [
        np.linalg.norm(new - old)
        for old, new in zip(start(), final(optimizer, steps), strict=True)
    ]


@pytest.mark.parametrize("decay", [None, 0.5])
def test_steps_of_lamb_and_lars_are_in_proportion_to_the_weights(decay):
    sizes = np.array([np.linalg.norm(w) for w in start()])
    got = lengths(Lamb(RATE, weight_decay=decay), gradients(1))
    np.testing.assert_allclose(got, RATE * sizes, rtol=1e-11)
    got = lengths(LARS(RATE, trust_coefficient=0.125), gradients(1))
    np.testing.assert_allclose(got, RATE * 0.125 * sizes, rtol=1e-11)


def from_zero(optimizer):
    model = variables("float64")
    for variable in model:
        variable.assign(0 * variable)
    apply(optimizer, model, gradients(1)[0])
    return values(model)


def test_weights_that_are_zero_are_trusted():
    options = {"beta_1": 0.75, "beta_2": 0.875, "epsilon": 2**-45}
    want = from_zero(Adam(RATE, **options))
    assert_close(from_zero(Lamb(RATE, **options)), want, 1e-9)
    assert_close(from_zero(LARS(RATE)), [-RATE * g for g in gradients(1)[0]], 1e-11)


@pytest.mark.parametrize("nesterov", [False, True], ids=["", "nesterov"])
def test_lars_is_sgd_with_a_rate_for_each_variable(nesterov):
    momentum, trust, epsilon = 0.75, 2**-3, 0.5

    def step(g, w, state, t):
        size = np.linalg.norm(w)
        ratio = trust * size / (np.linalg.norm(g) + DECAY * size + epsilon)
        change = ratio * (g + DECAY * w)
        state["m"] = momentum * state.get("m", 0) + change
        return RATE * (change + momentum * state["m"] if nesterov else state["m"])

    got = LARS(RATE, momentum, trust, epsilon, nesterov, weight_decay=DECAY)
    assert_close(final(got), simulated(step), 1e-11)


@pytest.mark.parametrize("cls", [LARS, NovoGrad])
def test_the_size_of_gradients_does_not_matter(cls):
    got = final(cls(RATE), gradients(scale=2.0**20))
    assert_close(got, final(cls(RATE)), 1e-6)


def test_novograd_is_momentum_of_normalised_gradients():
    beta_1, beta_2, epsilon = 0.75, 0.875, 2**-4

    def step(g, w, state, t):
        square = (g**2).sum()
        state["v"] = beta_2 * state.get("v", square) + (1 - beta_2) * square
        u = g / (np.sqrt(state["v"]) + epsilon) + DECAY * w
        state["m"] = beta_1 * state.get("m", 0) + u
        return RATE * state["m"]

    got = final(NovoGrad(RATE, beta_1, beta_2, epsilon, weight_decay=DECAY))
    assert_close(got, simulated(step), 1e-11)


def test_the_first_gradient_that_is_not_zero_sets_the_velocity_of_novograd():
    optimizer = NovoGrad(RATE)
    zeros = [[0 * g for g in grads] for grads in gradients(2)]
    got = final(optimizer, zeros + gradients())
    assert_close(got, final(NovoGrad(RATE)), 1e-12)
    assert {
        tuple(v.shape) for v in (s.slots["velocity"] for s in optimizer._engine.states)
    } == {()}
