"""What JAX users do with optimizers: `stateless_apply`, `jit` and `vmap`."""

import jax
import keras
import numpy as np
import pytest
from optimizer_cases import CASES, name_of

STEPS = 7
OPTIONS = {
    "weight_decay": 0.1,
    "clipnorm": 0.5,
    "use_ema": True,
    "ema_momentum": 0.8,
    "ema_overwrite_frequency": 2,
    "gradient_accumulation_steps": 2,
}


def variable():
    rng = np.random.default_rng(0)
    return keras.Variable(rng.normal(size=(4, 3)), dtype="float64", name="kernel")


def gradients():
    return list(np.random.default_rng(1).normal(size=(STEPS, 4, 3)))


def stateful(optimizer):
    kernel = variable()
    for gradient in gradients():
        optimizer.apply([jax.numpy.asarray(gradient)], [kernel])
    return np.asarray(kernel.value)


@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["plain", "options"])
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_stateless_apply_under_jit(case, options):
    optimizer = case.make(**options)
    kernel = variable()
    optimizer.build([kernel])
    step = jax.jit(optimizer.stateless_apply)
    state, weights = [v.value for v in optimizer.variables], [kernel.value]
    for gradient in gradients():
        weights, state = step(state, [gradient], weights)
    np.testing.assert_allclose(
        weights[0], stateful(case.make(**options)), rtol=1e-10, atol=1e-13
    )
    assert step._cache_size() == 1


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_vmap_over_learning_rates(case):
    rates = np.array([0.001, 0.01, 0.1])
    optimizer = case.make(**OPTIONS)
    kernel = variable()
    optimizer.build([kernel])
    where = next(
        i for i, v in enumerate(optimizer.variables) if v is optimizer._learning_rate
    )

    def train(rate):
        state, weights = [v.value for v in optimizer.variables], [kernel.value]
        state[where] = rate.astype(state[where].dtype)

        def body(carry, gradient):
            weights, state = optimizer.stateless_apply(carry[1], [gradient], carry[0])
            return (weights, state), None

        grads = jax.numpy.asarray(gradients())
        return jax.lax.scan(body, (weights, state), grads)[0][0][0]

    together = jax.jit(jax.vmap(train))(jax.numpy.asarray(rates))
    for rate, weights in zip(rates, together, strict=True):
        alone = stateful(case.make(**{**OPTIONS, "learning_rate": float(rate)}))
        np.testing.assert_allclose(weights, alone, rtol=1e-6, atol=1e-9)


def test_accumulation_and_average_in_fit():
    def fit(optimizer):
        model = keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)]
        )
        rng = np.random.default_rng(2)
        model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
        model.compile(optimizer, "mse", jit_compile=True)
        x, y = rng.normal(size=(56, 4)), rng.normal(size=(56, 1))
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        return model.get_weights()

    case = next(case for case in CASES if case.name == "adam")
    options = {**OPTIONS, "epsilon": 1e-3}
    for got, want in zip(
        fit(case.make(**options)), fit(case.make_namesake(**options)), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
