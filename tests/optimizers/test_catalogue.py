"""Every class of the catalogue, a row a class; runs on every backend."""

import ast
import inspect
import json

import keras
import numpy as np
import pytest
from keras import ops
from optimizer_cases import EVERY, WRAPPERS, Ramp, name_of

BACKEND = keras.backend.backend()
STEPS = 6
SHAPES = {"kernel": (4, 3), "bias": (3,), "excluded": (2, 3)}

every = pytest.mark.parametrize("case", EVERY, ids=name_of)


def variables(dtype="float32"):
    rng = np.random.default_rng(0)
    return [
        keras.Variable(rng.normal(size=shape), dtype=dtype, name=name)
        for name, shape in SHAPES.items()
    ]


def gradients(steps=STEPS, scale=1.0):
    rng = np.random.default_rng(1)
    return [
        [scale * rng.integers(-16, 17, shape) / 8 for shape in SHAPES.values()]
        for _ in range(steps)
    ]


def apply(optimizer, model, grads):
    grads = [
        None if g is None else ops.convert_to_tensor(g, v.dtype)
        for g, v in zip(grads, model, strict=True)
    ]
    optimizer.apply(grads, model)


def values(model):
    return [np.array(ops.convert_to_numpy(v), "float64") for v in model]


def trained(optimizer, steps=None, dtype="float32"):
    model = variables(dtype)
    for grads in gradients() if steps is None else steps:
        apply(optimizer, model, grads)
    return values(model)


def assert_close(got, want, rtol=1e-5):
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=rtol, atol=rtol)


def assert_equal(got, want):
    for g, w in zip(got, want, strict=True):
        np.testing.assert_array_equal(g, w)


def differ(left, right) -> bool:
    return any((a != b).any() for a, b in zip(left, right, strict=True))


# What it says of itself.


@every
def test_config(case):
    options = {"clipnorm": 0.5, "use_ema": True, "name": "mine"}
    optimizer = case.make(**options, learning_rate=Ramp())
    config = optimizer.get_config()
    given = {**case.arguments, **options}
    given.pop("learning_rate", None)
    assert {name: config[name] for name in given} == given
    text = json.dumps(keras.optimizers.serialize(optimizer))
    again = keras.optimizers.deserialize(json.loads(text), {"Ramp": Ramp})
    assert type(again) is case.cls
    assert json.dumps(keras.optimizers.serialize(again)) == text
    registered = keras.saving.get_registered_name(case.cls)
    assert registered == f"keras_adaptive>{case.cls.__name__}"


def lines_of_code(cls) -> int:
    """Lines without docstring, blanks, comments; a declaration counts as one."""
    lines = inspect.getsource(cls).splitlines()
    (tree,) = ast.parse("\n".join(lines)).body
    text = set(range(tree.body[0].lineno, tree.body[0].end_lineno + 1))
    for node in tree.body:
        if isinstance(node, ast.AnnAssign):
            text |= set(range(node.lineno + 1, node.end_lineno + 1))
    stripped = [line.strip() for n, line in enumerate(lines, 1) if n not in text]
    return sum(bool(line) and not line.startswith("#") for line in stripped)


@every
def test_an_element_wise_optimizer_is_a_short_class(case):
    optimizer = case.make()
    shaped = any(slot.shape_of for slot in optimizer.slots.values())
    if shaped or optimizer.dense_only or optimizer.global_slots:
        pytest.skip("not element-wise")
    assert lines_of_code(case.cls) <= 30


def test_each_class_is_abstract_or_final():
    """No optimizer inherits from another: what two share is a class of its own."""
    classes = {case.cls for case in (*EVERY, *WRAPPERS)}
    assert not {(a, b) for a in classes for b in classes if a is not b} & {
        (a, base) for a in classes for base in a.__mro__[1:]
    }


@every
def test_unknown_arguments(case):
    with pytest.raises(TypeError, match="no_such_argument"):
        case.cls(no_such_argument=0.5)


@every
def test_bounds_are_checked(case):
    for name in {"learning_rate", "weight_decay", *case.cls.constraints}:
        for bad in (float("nan"), -1e30, "0.1"):
            with pytest.raises(ValueError, match=f"{case.cls.__name__}.*`{name}`"):
                case.cls(**{name: bad})


# Base options.


@pytest.mark.slow
@every
def test_loss_scale(case):
    scaled = case.make(loss_scale_factor=8.0)
    assert_close(trained(scaled, gradients(scale=8.0)), trained(case.make()), 1e-6)


@pytest.mark.slow
@every
def test_clipping(case):
    limit = 0.5

    def clipped(norm):
        return [[g * min(1, limit / norm(g)) for g in grads] for grads in gradients()]

    by_norm = clipped(np.linalg.norm)
    by_value = [[np.clip(g, -limit, limit) for g in grads] for grads in gradients()]
    together = [
        [g * min(1, limit / np.sqrt(sum((h**2).sum() for h in grads))) for g in grads]
        for grads in gradients()
    ]
    # Rules that divide by a small number carry the rounding of the norm further.
    assert_close(
        trained(case.make(clipnorm=limit)), trained(case.make(), by_norm), 1e-4
    )
    assert_close(trained(case.make(clipvalue=limit)), trained(case.make(), by_value))
    assert_close(
        trained(case.make(global_clipnorm=limit)),
        trained(case.make(), together),
        1e-4,
    )


@pytest.mark.slow
@every
def test_weight_decay_and_exclusion(case):
    decaying, excluding = (case.make(weight_decay=0.25) for _ in "ab")
    excluding.exclude_from_weight_decay(var_names=["excluded", "bias"])
    got, plain = trained(excluding), trained(case.make(weight_decay=case.no_decay))
    assert differ(trained(decaying)[2:], plain[2:])
    assert differ(got[:1], plain[:1])
    if case.separable:
        assert_close(got[1:], plain[1:], 1e-6)


@every
def test_accumulation(case):
    """Twice the same gradient is once that gradient."""
    twice = [grads for grads in gradients() for _ in range(2)]
    got = trained(case.make(gradient_accumulation_steps=2), twice)
    assert_close(got, trained(case.make()), 1e-6)


@every
def test_moving_average(case):
    optimizer, model = case.make(use_ema=True, ema_momentum=0.75), variables()
    average = None
    for grads in gradients():
        apply(optimizer, model, grads)
        now = values(model)
        average = average or now
        average = [0.75 * a + 0.25 * w for a, w in zip(average, now, strict=True)]
    optimizer.finalize_variable_values(model)
    assert_close(values(model), average)


# Learning rates.


@pytest.mark.slow
@every
def test_schedules_and_assigned_rates_are_used(case):
    high, low = 0.0625, 0.015625
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [high, low])
    scheduled = trained(case.make(learning_rate=schedule))
    optimizer, model = case.make(learning_rate=high), variables()
    for step, grads in enumerate(gradients()):
        if step == 3:
            optimizer.learning_rate = low
        apply(optimizer, model, grads)
    assert_close(values(model), scheduled, 1e-6)
    assert float(optimizer.learning_rate) == low
    assert differ(scheduled, trained(case.make(learning_rate=high)))


# Dtypes and gradients that are not there.


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@every
def test_16_bits(case, dtype):
    optimizer, model = case.make(), variables(dtype)
    for grads in gradients():
        apply(optimizer, model, grads)
    assert all(np.isfinite(v).all() for v in values(model))
    assert {keras.backend.standardize_dtype(v.dtype) for v in model} == {dtype}
    state = [v for s in optimizer._engine.states for v in s.slots.values()]
    dtypes = {keras.backend.standardize_dtype(v.dtype) for v in state}
    assert dtypes <= {"float32"}
    unit = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[dtype]
    start, want = values(variables(dtype)), values(model)
    assert differ(start, want)
    assert max(np.abs(w).max() for w in want) < 1e3 / unit


@pytest.mark.slow
@every
def test_a_policy_and_a_frozen_layer(case):
    policy = "mixed_float16"
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Dense(4, activation="tanh", dtype=policy),
        keras.layers.Dense(4, dtype=policy, trainable=False),
        keras.layers.Dense(2, dtype="float32"),
    ]
    model = keras.Sequential([keras.Input((3,)), *layers])
    optimizer = case.make(loss_scale_factor=8.0)
    model.compile(optimizer, "mse", jit_compile=False)
    start = [np.array(w) for layer in layers for w in layer.get_weights()]
    rng = np.random.default_rng(2)
    for _ in range(3):
        model.train_on_batch(rng.normal(size=(5, 3)), rng.normal(size=(5, 2)))
    after = model.get_weights()
    assert all(np.isfinite(w).all() for w in after)
    assert_equal(after[2:4], start[2:4])
    assert differ(after[:2], start[:2]) and differ(after[4:], start[4:])
    assert len(optimizer._trainable_variables) == 4


@every
def test_missing_gradients(case):
    optimizer, model = case.make(), variables()
    start = values(model)
    for grads in gradients():
        with pytest.warns(UserWarning, match="Gradients do not exist.*bias"):
            apply(optimizer, model, [grads[0], None, grads[2]])
    after = values(model)
    assert_equal(after[1:2], start[1:2])
    assert differ(after[:1], start[:1])


@every
def test_zero_gradients_are_finite(case):
    zeros = [[np.zeros(shape) for shape in SHAPES.values()] for _ in range(2)]
    got = trained(case.make(), [*zeros, *gradients(2), *zeros])
    assert all(np.isfinite(v).all() for v in got)
