"""Our classes in place of Keras's of the same name; runs on every backend."""

import keras
import numpy as np
import pytest
from optimizer_cases import NAMESAKES, Ramp, name_of, parameters

import keras_adaptive

STEPS = 8
# `ops.maximum` of PyTorch's float64 passes through float32, once a step.
AMSGRAD = {"adam-amsgrad": 1e-7} if keras.backend.backend() == "torch" else {}
SHAPES = {"kernel": (4, 3), "bias": (3,)}
OPTIONS = {
    "plain": {},
    "clipnorm": {"clipnorm": 0.5},
    "clipvalue": {"clipvalue": 0.25},
    "global_clipnorm": {"global_clipnorm": 0.75},
    "decay": {"weight_decay": 0.125},
    "average": {"use_ema": True, "ema_momentum": 0.75},
    "overwrite": {"use_ema": True, "ema_momentum": 0.75, "ema_overwrite_frequency": 3},
    "scale": {"loss_scale_factor": 8.0},
    "accumulation": {
        "gradient_accumulation_steps": 3,
        "clipnorm": 0.5,
        "weight_decay": 0.125,
        "use_ema": True,
        "ema_momentum": 0.75,
        "ema_overwrite_frequency": 2,
    },
    "schedule": {"learning_rate": Ramp()},
    "callable": {"learning_rate": lambda: 0.03125, "weight_decay": 0.125},
}


@pytest.fixture(autouse=True)
def float64():
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


def trajectory(optimizer, halve_at=None, exclude=None):
    rng = np.random.default_rng(0)
    model = [
        keras.Variable(rng.normal(size=shape), dtype="float64", name=name)
        for name, shape in SHAPES.items()
    ]
    if exclude:
        optimizer.exclude_from_weight_decay(var_names=[exclude])
    seen = []
    for step in range(STEPS):
        if step == halve_at:
            optimizer.learning_rate = float(optimizer.learning_rate) / 2
        grads = [
            keras.ops.convert_to_tensor(rng.normal(size=shape), "float64")
            for shape in SHAPES.values()
        ]
        optimizer.apply(grads, model)
        seen += [keras.ops.convert_to_numpy(v).copy() for v in model]
    optimizer.finalize_variable_values(model)
    return [*seen, *(keras.ops.convert_to_numpy(v) for v in model)]


def assert_same(got, want, case):
    rtol = AMSGRAD.get(case.name, 1e-11)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("case", NAMESAKES, ids=name_of)
def test_arguments_and_defaults_are_keras_s(case):
    ours, theirs = parameters(case.cls), parameters(case.namesake)
    assert theirs.keys() <= ours.keys()
    # Keras names Adagrad "adagrad", we let Keras number the names.
    differing = {
        name: (ours[name].default, parameter.default)
        for name, parameter in theirs.items()
        if name != "name" and ours[name].default != parameter.default
    }
    assert not differing


@pytest.mark.parametrize("case", NAMESAKES, ids=name_of)
def test_arguments_can_be_given_by_position(case):
    numeric = [
        (name, parameter.default)
        for name, parameter in parameters(case.namesake).items()
        if isinstance(parameter.default, float) and name != "ema_momentum"
    ]
    positional = list(parameters(case.namesake))[: len(numeric)]
    arguments = [parameters(case.namesake)[name].default for name in positional]
    ours = case.cls(*arguments).get_config()
    theirs = case.namesake(*arguments).get_config()
    assert {n: ours[n] for n in positional} == {n: theirs[n] for n in positional}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("case", NAMESAKES, ids=name_of)
def test_trajectory_is_keras_s(case, option):
    options = OPTIONS[option]
    assert_same(
        trajectory(case.make(**options)),
        trajectory(case.make_namesake(**options)),
        case,
    )


@pytest.mark.parametrize("case", NAMESAKES, ids=name_of)
def test_learning_rate_can_be_set_in_between(case):
    assert_same(
        trajectory(case.make(), halve_at=4),
        trajectory(case.make_namesake(), halve_at=4),
        case,
    )


@pytest.mark.parametrize("case", NAMESAKES, ids=name_of)
def test_excluded_from_weight_decay(case):
    got = trajectory(case.make(weight_decay=0.125), exclude="bias")
    want = trajectory(case.make_namesake(weight_decay=0.125), exclude="bias")
    assert_same(got, want, case)
    with_decay = trajectory(case.make(weight_decay=0.125))
    # Compiled with other neighbours, the same formula may round otherwise.
    np.testing.assert_allclose(got[-2], with_decay[-2], rtol=1e-14)
    assert not np.array_equal(got[-1], with_decay[-1])


def test_exclusion_looks_at_the_path_on_every_backend():
    with keras.name_scope("layer"):
        inside = keras.Variable(np.ones(2), name="bias")
    outside = keras.Variable(np.ones(2), name="bias")
    optimizer = NAMESAKES[0].make(weight_decay=0.125)
    optimizer.exclude_from_weight_decay(var_names=["layer/bias"])
    optimizer.apply([keras.ops.zeros(2)] * 2, [inside, outside])
    assert (keras.ops.convert_to_numpy(inside) == 1).all()
    assert (keras.ops.convert_to_numpy(outside) < 1).all()


@pytest.mark.parametrize("case", NAMESAKES, ids=name_of)
def test_loads_keras_s_config(case):
    config = case.make_namesake(clipnorm=0.5).get_config()
    ours = case.cls.from_config(config).get_config()
    assert {name: ours[name] for name in config} == config


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_gradient_may_be_an_array(dtype):
    model = [keras.Variable(np.ones((2, 3), "float32"))]
    optimizer = keras_adaptive.optimizers.SGD(0.5)
    for _ in range(2):
        optimizer.apply([np.full((2, 3), 0.25, dtype)], model)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model[0]), 0.75)
