"""Dense updates on PyTorch: recorded rules give the same numbers, in few calls."""

import copy
import functools
import sys
from collections import Counter

import keras
import numpy as np
import pytest
import torch
from fused_cases import NormClipped, PerAxis, SmallRowsNormed, variables
from optimizer_cases import EVERY, name_of
from torch_calls import Calls

import keras_adaptive
from keras_adaptive import optimizers
from keras_adaptive.optimizers import AdaptiveOptimizer
from keras_adaptive.optimizers.engine.torch import fused

pytestmark = pytest.mark.torch

WAYS = {"gathered": (10**6, 16), "in blocks": (0, 7), "in one block": (0, 10**6)}


def gradients(model, step):
    rng = np.random.default_rng(step)
    return [torch.tensor(rng.normal(size=v.shape), dtype=v.value.dtype) for v in model]


def numbers(variable):
    return variable.value.detach().to(torch.float64).numpy().copy()


def train(optimizer, model, steps=6, without=(), first=0):
    """Trains and returns the variables after every step."""
    seen = []
    for step in range(first, first + steps):
        given = [
            (None if v.name in without else gradient, v)
            for gradient, v in zip(gradients(model, step), model, strict=True)
        ]
        optimizer.apply(*zip(*given, strict=True))
        seen.append([numbers(v) for v in model])
    return seen


def assert_same(got, want, rtol, atol=0.0):
    for a, b in zip(got, want, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)


@pytest.fixture
def plain(monkeypatch):
    """A function that switches the fused way off."""
    return lambda: monkeypatch.setenv("KERAS_ADAPTIVE_FUSED", "0")


@pytest.mark.parametrize("case", EVERY, ids=name_of)
def test_the_same_numbers_as_the_plain_way(case, monkeypatch, plain):
    ways = []
    for small, block in WAYS.values():
        monkeypatch.setattr(fused, "SMALL", small)
        monkeypatch.setattr(fused, "BLOCK", block)
        ways.append(train(case.make(), variables()))
    plain()
    want = train(case.make(), variables())
    for got in ways:
        assert_same(got, want, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    "options",
    [
        {"use_ema": True},
        {"gradient_accumulation_steps": 2, "global_clipnorm": 1.0},
        {"weight_decay": 0.1, "clipvalue": 0.5},
    ],
    ids=" ".join,
)
def test_with_the_options_of_keras(options, plain):
    got = train(optimizers.Adam(0.1, **options), variables())
    plain()
    assert_same(got, train(optimizers.Adam(0.1, **options), variables()), 1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("way", WAYS)
def test_in_fewer_bits(dtype, way, plain, monkeypatch):
    small, block = WAYS[way]
    monkeypatch.setattr(fused, "SMALL", small)
    monkeypatch.setattr(fused, "BLOCK", block)
    got = train(optimizers.AdamW(0.01), variables(dtype))
    plain()
    assert_same(got, train(optimizers.AdamW(0.01), variables(dtype)), rtol=1e-6)


def calls_of_a_step(optimizer, model):
    optimizer.apply(gradients(model, 0), model)
    given = gradients(model, 1)
    with Calls() as calls:
        optimizer.apply(given, model)
    return calls


def test_small_variables_share_their_calls():
    def counted(layers):
        shapes = {f"layer{n}": (n + 1, 3) for n in range(layers)}
        return calls_of_a_step(optimizers.Adam(), variables("float32", shapes)).names

    few, many = counted(5), counted(50)
    assert many["sqrt"] == few["sqrt"]
    assert many["mul"] == few["mul"]


def test_sgd_asks_for_no_more_than_its_formula():
    # Two products, a difference and a sum; another sum counts the step.
    optimizer = optimizers.SGD(0.1, momentum=0.9)
    calls = calls_of_a_step(optimizer, variables("float32")).names
    computed = {n: count for n, count in calls.items() if n in ("mul", "sub", "add")}
    assert computed == {"mul": 2, "sub": 1, "add": 2}
    assert not {"neg", "_to_copy", "pow"} & set(calls)


def python_calls_of_a_step(optimizer):
    model = variables("float32")
    optimizer.build(model)
    given = gradients(model, 0)
    optimizer.apply(given, model)
    calls = Counter()
    profile = sys.getprofile()
    sys.setprofile(lambda frame, event, argument: calls.update([event]))
    try:
        optimizer.apply(given, model)
    finally:
        sys.setprofile(profile)
    return calls["call"]


def test_a_step_calls_less_than_twice_as_much_python_as_keras_s():
    # It checks gradients, takes sparse ones, and gathers small variables besides.
    ours = python_calls_of_a_step(optimizers.SGD(0.1, momentum=0.9))
    theirs = python_calls_of_a_step(keras.optimizers.SGD(0.1, momentum=0.9))
    assert ours < 2 * theirs


def test_large_variables_share_what_depends_on_no_entry():
    def counted(layers):
        shapes = {f"layer{n}": (130, 130) for n in range(layers)}
        return calls_of_a_step(optimizers.Adam(), variables("float32", shapes)).names

    assert counted(4)["pow"] - counted(2)["pow"] == 2  # a square for each


@pytest.mark.parametrize("case", EVERY, ids=name_of)
def test_nothing_as_large_as_a_variable_is_made(case, monkeypatch):
    monkeypatch.setattr(fused, "SMALL", 0)
    monkeypatch.setattr(fused, "BLOCK", 32)
    optimizer, model = case.make(), variables("float32", {"a": (64, 64)})
    optimizer.build(model)
    calls = calls_of_a_step(optimizer, model)
    program = optimizer._engine.fused._programs
    if not any(program.values()):
        pytest.skip("its rule looks at whole variables")
    if optimizer.global_slots:
        pytest.skip("numbers of all variables are sums over whole ones")
    assert max(calls.made) <= 32


class Cumulative(AdaptiveOptimizer):
    def __init__(self, **options):
        super().__init__(0.1, **options)

    def rule(self, gradient, state, hyper):
        return hyper.learning_rate * keras.ops.cumsum(gradient, axis=0), state


class Deciding(AdaptiveOptimizer):
    """Asks for a value, as a rule cannot on the other backends."""

    def __init__(self, **options):
        super().__init__(0.1, **options)

    def rule(self, gradient, state, hyper):
        sign = 1.0 if float(hyper.step) % 2 else -1.0
        return hyper.learning_rate * gradient * sign, state


class Random(AdaptiveOptimizer):
    def __init__(self, **options):
        super().__init__(0.1, **options)

    def rule(self, gradient, state, hyper):
        noise = torch.tensor(np.random.default_rng(0).normal(size=gradient.shape))
        return hyper.learning_rate * (gradient + noise), state


@pytest.mark.parametrize(
    "cls", [NormClipped, Cumulative, PerAxis, SmallRowsNormed, Deciding, Random]
)
def test_a_rule_that_looks_at_more_than_entries_is_not_recorded(cls, plain):
    optimizer = cls()
    got = train(optimizer, variables())
    assert not any(optimizer._engine.fused._programs.values())
    plain()
    assert_same(got, train(cls(), variables()), rtol=0)


def test_a_variable_without_a_gradient_stands_still(plain):
    def trained():
        optimizer, model = optimizers.Adam(0.1), variables()
        return [
            *train(optimizer, model, steps=2),
            *train(optimizer, model, steps=2, without=["bias"], first=2),
            *train(optimizer, model, steps=2, first=4),
        ]

    got = trained()
    np.testing.assert_array_equal(got[3][1], got[1][1])
    plain()
    assert_same(got, trained(), rtol=1e-12)


def test_a_number_that_is_set_in_between_counts(plain):
    def trained():
        optimizer, model = optimizers.SGD(0.1, momentum=0.9), variables()
        seen = train(optimizer, model, steps=2)
        optimizer.momentum = 0.5
        optimizer.learning_rate = 0.01
        return [*seen, *train(optimizer, model, steps=2, first=2)]

    got = trained()
    plain()
    assert_same(got, trained(), rtol=1e-12)


@pytest.mark.parametrize("writer", ["1", "0"])
def test_state_moves_between_the_two_ways(writer, monkeypatch):
    monkeypatch.setenv("KERAS_ADAPTIVE_FUSED", writer)
    first, model = optimizers.Adam(0.1), variables()
    train(first, model, steps=2)
    state, after = first.get_state(), [numbers(v) for v in model]
    want = train(first, model, steps=2, first=2)
    monkeypatch.setenv("KERAS_ADAPTIVE_FUSED", "10"[int(writer)])
    second, model = optimizers.Adam(0.1), variables()
    for v, value in zip(model, after, strict=True):
        v.assign(value)
    second.build(model)
    second.set_state(state)
    assert_same(train(second, model, steps=2, first=2), want, rtol=1e-12)


def test_state_that_is_set_after_steps_counts():
    optimizer, model = optimizers.Adam(0.1), variables()
    train(optimizer, model, steps=2)
    state, weights = optimizer.get_state(), [numbers(v) for v in model]
    want = train(optimizer, model, steps=3, first=2)
    optimizer.set_state(state)
    for v, value in zip(model, weights, strict=True):
        v.assign(value)
    assert_same(train(optimizer, model, steps=3, first=2), want, rtol=0)


def test_without_state_of_its_own_nothing_is_written():
    optimizer, model = optimizers.Adam(0.1), variables()
    want = train(optimizer, model, steps=1)
    optimizer, model = optimizers.Adam(0.1), variables()
    optimizer.build(model)
    before = [numbers(v) for v in model]
    given = [v.value.detach().clone() for v in model]
    state = [v.value.detach().clone() for v in optimizer.variables]
    after, _ = optimizer.stateless_apply(state, gradients(model, 0), given)
    for v, tensor, old in zip(model, given, before, strict=True):
        np.testing.assert_array_equal(numbers(v), old)
        np.testing.assert_array_equal(tensor.numpy(), old)
    for new, expected in zip(after, want[0], strict=True):
        np.testing.assert_allclose(new.detach().numpy(), expected, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_compiled_by_torch(monkeypatch):
    """Traced and differentiated as by the default compiler, which takes minutes."""
    traced = functools.partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", traced)

    def losses(jit_compile):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((4,), dtype="int32"),
                keras_adaptive.layers.Embedding(20_000, 2),
                keras.layers.Flatten(),
                keras.layers.Dense(1),
            ]
        )
        optimizer = optimizers.SGD(0.1, momentum=0.9)
        model.compile(optimizer, "mse", jit_compile=jit_compile)
        ids, labels = np.arange(64).reshape(16, 4), np.ones((16, 1))
        history = model.fit(ids, labels, batch_size=8, shuffle=False, verbose=0)
        return history.history["loss"]

    np.testing.assert_allclose(losses(True), losses(False), rtol=1e-5)


def test_a_hyperparameter_that_changes_at_every_step():
    optimizer, model = optimizers.SGD(0.1, momentum=0.9), variables()
    for step in range(fused.MOST_PROGRAMS + 5):
        optimizer.momentum = 0.5 + step / 1000
        optimizer.apply(gradients(model, step), model)
    assert len(optimizer._engine.fused._programs) <= fused.MOST_PROGRAMS


def test_a_copy_of_an_optimizer_trains_on():
    optimizer, model = optimizers.Adam(0.1), variables()
    train(optimizer, model, steps=2)
    copied, models = copy.deepcopy((optimizer, model))
    want = train(optimizer, model, steps=3, first=2)
    assert_same(train(copied, models, steps=3, first=2), want, rtol=0)


def test_a_variable_whose_entries_are_not_in_order():
    shapes = {"a": (30, 20)}
    optimizer, model = optimizers.Adam(0.1), variables(shapes=shapes)
    model[0].value.data = model[0].value.data.t().contiguous().t()
    want = train(optimizers.Adam(0.1), variables(shapes=shapes))
    assert_same(train(optimizer, model), want, rtol=1e-12)


def test_frozen_and_thawed_in_a_model():
    def losses(way):
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(3) for _ in range(3)]
        model = keras.Sequential([keras.Input((4,)), *layers])
        x, y = np.ones((8, 4)), np.arange(24.0).reshape(8, 3)
        optimizer = optimizers.Adam(0.1)
        seen = []
        for trainable in (True, False, True):
            layers[1].trainable = trainable
            model.compile(optimizer, "mse")
            seen += model.fit(x, y, epochs=2, verbose=0).history["loss"]
        return seen

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_ADAPTIVE_FUSED", "0")
        want = losses("plain")
    np.testing.assert_allclose(losses("fused"), want, rtol=1e-5)
