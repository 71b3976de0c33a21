"""Schedule-free optimizers: averages, the two points, rows; runs on every backend."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops
from optimizer_cases import Ramp

from keras_adaptive import optimizers

MAKE = {
    "sgd": lambda **options: optimizers.ScheduleFreeSGD(0.125, 0.75, **options),
    "adamw": lambda **options: optimizers.ScheduleFreeAdamW(0.125, 0.75, **options),
    "radam": lambda **options: optimizers.ScheduleFreeRAdam(0.125, 0.75, **options),
}
AT_Z = {
    "sgd-0": lambda **options: optimizers.ScheduleFreeSGD(0.125, 0.0, **options),
    "adamw-0": lambda **options: optimizers.ScheduleFreeAdamW(0.125, 0.0, **options),
    "radam-0": lambda **options: optimizers.ScheduleFreeRAdam(0.125, 0.0, **options),
}
STEPS = 8

every = pytest.mark.parametrize("name", MAKE)


def variable(dtype="float64"):
    return keras.Variable(np.linspace(-1, 1, 6).reshape(3, 2), dtype=dtype)


def gradients():
    rng = np.random.default_rng(0)
    return rng.normal(size=(STEPS, 3, 2))


def apply(optimizer, kernel, gradient):
    optimizer.apply([ops.convert_to_tensor(gradient, kernel.dtype)], [kernel])


def values(kernel):
    return np.array(ops.convert_to_numpy(kernel))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_x_is_the_average_of_z(name):
    optimizer, kernel, seen = MAKE[name](weight_decay=0.25), variable(), []
    for gradient in gradients():
        apply(optimizer, kernel, gradient)
        seen.append(values(optimizer._engine.states[0].slots["z"]))
    y = values(kernel)
    optimizer.to_evaluation()
    x = np.mean(seen, axis=0)
    np.testing.assert_allclose(values(kernel), x, rtol=1e-6)
    np.testing.assert_allclose(y, 0.25 * seen[-1] + 0.75 * x, rtol=1e-6)


def test_no_weight_for_steps_without_a_rate():
    # ρₜ > 4 from the fifth step on; c is then 1, and x begins there.
    optimizer, kernel = MAKE["radam"](), variable()
    for gradient in gradients()[:4]:
        apply(optimizer, kernel, gradient)
        np.testing.assert_array_equal(values(kernel), values(variable()))
    apply(optimizer, kernel, gradients()[4])
    z = values(optimizer._engine.states[0].slots["z"])
    assert (z != values(variable())).all()
    optimizer.to_evaluation()
    np.testing.assert_allclose(values(kernel), z, rtol=1e-12)


def test_without_momentum_it_is_polyak_averaging():
    """SGD makes the steps, and x is the mean of its iterates."""
    optimizer, sgd = AT_Z["sgd-0"](weight_decay=0.25), optimizers.SGD(0.125)
    kernel, other, seen = variable(), variable(), []
    for gradient in gradients():
        apply(optimizer, kernel, gradient)
        apply(sgd, other, gradient + 0.25 * values(other))
        seen.append(values(other))
        np.testing.assert_allclose(values(kernel), values(other), rtol=1e-12)
    optimizer.to_evaluation()
    np.testing.assert_allclose(values(kernel), np.mean(seen, axis=0), rtol=1e-6)
    optimizer.to_training()
    np.testing.assert_array_equal(values(kernel), seen[-1])


@pytest.mark.parametrize("name", ["sgd", "adamw", "radam"])
def test_without_momentum_it_is_the_limit_of_little_momentum(name):
    def points(beta):
        optimizer, kernel = AT_Z[f"{name}-0"](), variable()
        setattr(optimizer, "momentum" if name == "sgd" else "beta_1", beta)
        for gradient in gradients():
            apply(optimizer, kernel, gradient)
        y = values(kernel)
        optimizer.to_evaluation()
        return y, values(kernel)

    np.testing.assert_allclose(points(0.0), points(1e-6), atol=1e-5)


@pytest.mark.parametrize("name", MAKE | AT_Z)
def test_there_and_back(name):
    optimizer, kernel = (MAKE | AT_Z)[name](), variable()
    optimizer.to_evaluation()
    for gradient in gradients():
        apply(optimizer, kernel, gradient)
    y = values(kernel)
    optimizer.to_training()
    np.testing.assert_array_equal(values(kernel), y)
    optimizer.to_evaluation()
    x = values(kernel)
    optimizer.to_evaluation()
    optimizer.finalize_variable_values([kernel])
    np.testing.assert_array_equal(values(kernel), x)
    assert optimizer.evaluating and np.abs(x - y).max() > 1e-3
    optimizer.to_training()
    np.testing.assert_allclose(values(kernel), y, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", MAKE | AT_Z)
def test_apply_goes_back_first(name):
    straight, detour = (MAKE | AT_Z)[name](), (MAKE | AT_Z)[name]()
    kernel, other = variable(), variable()
    for gradient in gradients():
        apply(straight, kernel, gradient)
        apply(detour, other, gradient)
        assert not detour.evaluating
        detour.to_evaluation()
    detour.to_training()
    np.testing.assert_allclose(values(other), values(kernel), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_moving_average_of_16_bits_comes_back(dtype):
    optimizer, kernel = optimizers.Adam(0.125, use_ema=True), variable(dtype)
    for gradient in gradients():
        apply(optimizer, kernel, gradient)
    weights = ops.convert_to_numpy(ops.cast(kernel, "float32"))
    optimizer.to_evaluation()
    average = ops.convert_to_numpy(ops.cast(kernel, "float32"))
    assert (average != weights).any()
    optimizer.to_training()
    back = ops.convert_to_numpy(ops.cast(kernel, "float32"))
    np.testing.assert_array_equal(back, weights)


@pytest.mark.parametrize("make", [MAKE["adamw"], AT_Z["adamw-0"]])
def test_saved_at_the_evaluation_point(make):
    optimizer, kernel, store = make(), variable(), {}
    for gradient in gradients()[:4]:
        apply(optimizer, kernel, gradient)
    optimizer.finalize_variable_values([kernel])
    optimizer.save_own_variables(store)
    again, other = make(), keras.Variable(values(kernel), dtype="float64")
    again.load_own_variables(store)
    again.build([other])
    assert again.evaluating
    for gradient in gradients()[4:]:
        apply(optimizer, kernel, gradient)
        apply(again, other, gradient)
    np.testing.assert_array_equal(values(other), values(kernel))


def test_what_cannot_be_had():
    with pytest.raises(ValueError, match="ScheduleFreeSGD.*`momentum`"):
        optimizers.ScheduleFreeSGD(momentum=1.0)
    with pytest.raises(ValueError, match="ScheduleFreeAdamW.*`beta_1`"):
        optimizers.ScheduleFreeAdamW(beta_1=1.0)
    for mode in ("deferred", "lazy"):
        with pytest.raises(ValueError, match=f"'{mode}'.*β = 0.*sparse='dense'"):
            optimizers.ScheduleFreeSGD(momentum=0.0, sparse=mode)
    assert optimizers.ScheduleFreeAdamW(beta_1=0.0).sparse == "dense"
    with pytest.raises(ValueError, match="cautious=True is not supported"):
        optimizers.ScheduleFreeRAdam(cautious=True)
    with pytest.raises(ValueError, match="weight decay inside"):
        optimizers.ScheduleFreeSGD(weight_decay=0.1, sparse="deferred")
    assert optimizers.ScheduleFreeSGD(weight_decay=0.1).sparse == "lazy"


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 3}])
@every
def test_deferred_ends_where_dense_does(name, options):
    """At x, under a schedule, to rounding."""
    from test_deferred import trajectory

    def finals(sparse, **how):
        optimizer = type(MAKE[name]())(Ramp(), sparse=sparse, **options)
        return trajectory(optimizer, **how)[-1]

    want = finals("dense", how="eager")
    np.testing.assert_allclose(finals("deferred"), want, rtol=1e-9, atol=1e-10)


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize("mode", ["deferred", "lazy"])
@every
def test_no_operation_is_as_large_as_the_table(name, mode):
    from test_graph import concrete, large

    function, _ = concrete(MAKE[name](sparse=mode, clipnorm=0.5))
    assert large(function) == set()


def test_one_warning_if_nobody_looks_after_the_points():
    optimizer, kernel = MAKE["adamw"](), variable()
    gradient = gradients()[0]
    apply(optimizer, kernel, gradient)
    with pytest.warns(UserWarning, match="EvaluateAveraged") as caught:
        optimizer.finalize_variable_values([kernel])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        apply(optimizer, kernel, gradient)
        optimizer.finalize_variable_values([kernel])
        looked_after, kernel = MAKE["sgd"](), variable()
        apply(looked_after, kernel, gradient)
        looked_after.to_training()
        looked_after.finalize_variable_values([kernel])
    assert len(caught) == 1


@pytest.mark.filterwarnings("ignore:.*point at which to evaluate")
@pytest.mark.parametrize("around", [lambda o: o, optimizers.Lookahead])
def test_float8(around):
    """The scales of float8 are overwritten by their gradients, and have no slots."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.quantize("float8")
    model.compile(around(optimizers.ScheduleFreeSGD(0.1)), "mse", jit_compile=False)
    x, y = np.ones((4, 4), "float32"), np.ones((4, 2), "float32")
    before = model.evaluate(x, y, verbose=0)
    model.fit(x, y, epochs=6, verbose=0)
    assert model.evaluate(x, y, verbose=0) < before / 2
    model.optimizer.to_training()
    model.optimizer.to_evaluation()
    assert model.evaluate(x, y, verbose=0) < before / 2
