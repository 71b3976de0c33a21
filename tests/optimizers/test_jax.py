"""What JAX users do with optimizers: `stateless_apply`, `jit` and `vmap`."""

import re
from collections import Counter

import jax
import keras
import numpy as np
import pytest
from jax.experimental.sparse import BCOO
from optimizer_cases import CASES, EVERY, NAMESAKES, name_of

from keras_adaptive import optimizers
from keras_adaptive.optimizers import SAM, Adagrad

pytestmark = pytest.mark.jax

STEPS = 7
OPTIONS = {
    "weight_decay": 0.125,
    "clipnorm": 0.5,
    "use_ema": True,
    "ema_momentum": 0.75,
    "ema_overwrite_frequency": 2,
    "gradient_accumulation_steps": 2,
}


def variable():
    rng = np.random.default_rng(0)
    return keras.Variable(rng.normal(size=(4, 3)), dtype="float64", name="kernel")


def gradients():
    return list(np.random.default_rng(1).normal(size=(STEPS, 4, 3)))


def built(optimizer):
    kernel = variable()
    optimizer.build([kernel])
    return optimizer, [v.value for v in optimizer.variables], [kernel.value]


def jitted(optimizer):
    (weights,) = jitted_at(optimizer, [optimizer.learning_rate])
    return weights


def jitted_at(optimizer, rates):
    """The weights after training at each rate, by one compiled step."""
    optimizer, start, weights = built(optimizer)
    step = jax.jit(optimizer.stateless_apply)

    def trained(rate):
        now, state = weights, with_rate(optimizer, start, rate)
        for gradient in gradients():
            now, state = step(state, [gradient], now)
        return now[0]

    found = [trained(rate) for rate in rates]
    assert step._cache_size() == 1
    return found


def with_rate(optimizer, state, rate):
    place = [v is optimizer._learning_rate for v in optimizer.variables].index(True)
    rate = jax.numpy.asarray(rate, state[place].dtype)
    return [*state[:place], rate, *state[place + 1 :]]


def assert_close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("case", EVERY, ids=name_of)
def test_stateless_apply_under_jit_equals_apply(case):
    kernel, optimizer = variable(), case.make(weight_decay=0.125, use_ema=True)
    for gradient in gradients():
        optimizer.apply([jax.numpy.asarray(gradient)], [kernel])
    assert_close(jitted(case.make(weight_decay=0.125, use_ema=True)), kernel.value)


@pytest.mark.parametrize("case", NAMESAKES, ids=name_of)
def test_all_options_under_jit_are_keras_s(case):
    assert_close(jitted(case.make(**OPTIONS)), jitted(case.make_namesake(**OPTIONS)))


@pytest.mark.parametrize("case", EVERY, ids=name_of)
def test_vmap_over_learning_rates(case):
    rates = [0.001, 0.01, 0.1]
    optimizer, start, weights = built(case.make(**OPTIONS))

    def train(rate):
        def step(carry, gradient):
            return optimizer.stateless_apply(carry[1], [gradient], carry[0]), None

        carry = (weights, with_rate(optimizer, start, rate))
        return jax.lax.scan(step, carry, jax.numpy.asarray(gradients()))[0][0][0]

    together = jax.jit(jax.vmap(train))(jax.numpy.asarray(rates))
    alone = jitted_at(case.make(**OPTIONS), rates)
    for got, want in zip(together, alone, strict=True):
        assert_close(got, want)


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


def compiled_step(optimizer):
    """The operations of a compiled step that pass over memory, and the bytes of all."""
    rng = np.random.default_rng(0)
    kernels = [
        keras.Variable(rng.normal(size=shape), dtype="float32")
        for shape in [(64, 64), (64,), (64, 10)]
    ]
    optimizer.build(kernels)
    state = [v.value for v in optimizer.variables]
    values = [v.value for v in kernels]
    step = jax.jit(optimizer.stateless_apply, donate_argnums=(0, 2))
    compiled = step.lower(state, values, values).compile()
    _, entry = compiled.as_text().split("\nENTRY ")
    passes = Counter(re.findall(r"= \S+ ([a-z-]+)\(", entry))
    return passes, compiled.cost_analysis()["bytes accessed"]


@pytest.mark.parametrize(
    "family", ["Adam", "AdamW", "SGD", "RMSprop", "Adagrad", "Adamax", "Nadam", "Lion"]
)
def test_a_compiled_step_moves_no_more_than_keras_s(family):
    options = {"momentum": 0.9} if family == "SGD" else {}
    passes, moved = compiled_step(getattr(optimizers, family)(**options))
    most, most_moved = compiled_step(getattr(keras.optimizers, family)(**options))
    assert passes - most == Counter()
    assert moved <= most_moved


@pytest.mark.parametrize("how", ["apply", "jit"])
@pytest.mark.parametrize("wrap", [lambda o: o, SAM], ids=["plain", "sam"])
def test_a_sparse_gradient_is_taken(wrap, how):
    """`Embedding(sparse=True)` gives JAX's sparse arrays, ids may repeat."""

    def table_after(sparse):
        table, optimizer = variable(), wrap(Adagrad(0.5))
        optimizer.build([table])
        state, weights = [v.value for v in optimizer.variables], [table.value]
        step = optimizer.stateless_apply
        step = jax.jit(step) if how == "jit" else step
        for value in (0.25, 0.5):
            values = jax.numpy.full((3, 3), value, table.dtype)
            ids = jax.numpy.asarray([[0], [2], [0]])
            gradient = BCOO((values, ids), shape=(4, 3))
            given = gradient if sparse else gradient.todense()
            weights, state = step(state, [given], weights)
        return weights[0]

    assert_close(table_after(sparse=True), table_after(sparse=False))
