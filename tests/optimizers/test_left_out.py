"""Variables that have no gradient, or a learning rate of 0, stand still."""

import keras
import numpy as np
import pytest
from optimizer_cases import EVERY, WRAPPERS, Ramp, name_of, third_on_jax

from keras_adaptive import optimizers

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"

ALL = third_on_jax(EVERY + WRAPPERS)

SHAPES = {"table": (20, 3), "kernel": (4, 3), "bias": (3,)}


def variables(dtype="float32"):
    rng = np.random.default_rng(0)
    return [
        keras.Variable(rng.normal(size=shape), dtype=dtype, name=name)
        for name, shape in SHAPES.items()
    ]


def gradients(step, model, sparse=False):
    rng = np.random.default_rng(step)
    found = []
    for variable in model:
        values = rng.normal(size=tuple(variable.shape))
        found.append(keras.ops.convert_to_tensor(values, variable.dtype))
    if sparse and ON_TENSORFLOW:
        import tensorflow as tf

        ids = rng.integers(0, 20, 2)
        found[0] = tf.IndexedSlices(found[0][:2], ids, [20, 3])
    return found


def train(optimizer, model, steps, sparse=False, left_out=None, listed=True):
    for step in steps:
        grads = gradients(step, model, sparse)
        if left_out is None:
            optimizer.apply(grads, model)
        elif listed:
            grads[left_out] = None
            optimizer.apply(grads, model)
        else:
            kept = [i for i in range(len(model)) if i != left_out]
            optimizer.apply([grads[i] for i in kept], [model[i] for i in kept])
    optimizer.finalize_variable_values(model)


def values(model):
    return [keras.ops.convert_to_numpy(v).copy() for v in model]


def still(case):
    # The way to the average and back rounds like one more step.
    averages = "schedule-free" in case.name
    return {"rtol": 1e-5, "atol": 1e-6} if averages else {"rtol": 0, "atol": 0}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*point at which to evaluate")
@pytest.mark.parametrize("case", ALL, ids=name_of)
def test_left_out(case):
    optimizer, model = case.make(), variables()
    train(optimizer, model, range(3), sparse=True)
    for left_out, listed in ((1, True), (0, False)):
        before = values(model)[left_out]
        train(
            optimizer,
            model,
            range(3, 7),
            sparse=True,
            left_out=left_out,
            listed=listed,
        )
        after = values(model)[left_out]
        np.testing.assert_allclose(after, before, **still(case))
        train(optimizer, model, range(7, 12), sparse=True)
        thawed = values(model)[left_out]
        assert np.isfinite(thawed).all()
        assert np.any(thawed != after)


MOVES_BY_ITSELF = ("momentum", "nesterov", "sam", "lookahead", "mechanic", "dadapt")
"""Cases of algorithms that take the rate into their momentum, or have a rate of their
own."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*point at which to evaluate")
@pytest.mark.parametrize(
    "case", [c for c in ALL if "dadapt" not in c.name], ids=name_of
)
def test_rate_of_zero(case):
    optimizer, model = case.make(), variables("float64")
    rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
    start = values(model)
    optimizer.learning_rate = 0
    train(optimizer, model, range(2), sparse=True)
    for value, old in zip(values(model), start, strict=True):
        np.testing.assert_allclose(value, old, rtol=1e-12, atol=1e-15)
    optimizer.learning_rate = rate
    train(optimizer, model, range(4, 7), sparse=True)
    between = values(model)
    for value, old in zip(between, start, strict=True):
        assert 1e-9 < np.max(np.abs(value - old)) < 3
    optimizer.learning_rate = 0.0
    train(optimizer, model, range(9, 11), sparse=True)
    if not any(word in case.name for word in MOVES_BY_ITSELF):
        for value, old in zip(values(model), between, strict=True):
            np.testing.assert_allclose(value, old, rtol=1e-12, atol=1e-15)
    optimizer.learning_rate = rate
    train(optimizer, model, range(13, 15), sparse=True)
    assert all(np.isfinite(value).all() for value in values(model))


@pytest.mark.parametrize("mode", ["deferred", "lazy", "dense"])
def test_ftrl_skips_steps_of_rate_zero(mode):
    models = []
    for pauses in (False, True):
        optimizer, model = optimizers.Ftrl(0.1, sparse=mode), variables("float64")
        train(optimizer, model, range(4), sparse=True)
        if pauses:
            optimizer.learning_rate = 0
            train(optimizer, model, range(20, 24), sparse=True)
            optimizer.learning_rate = 0.1
        train(optimizer, model, range(4, 9), sparse=True)
        models.append(values(model))
    for value, right in zip(*models, strict=True):
        np.testing.assert_allclose(value, right, rtol=1e-12)


@pytest.mark.parametrize("sparse", [False, True])
def test_what_was_accumulated_waits_for_an_update_with_a_gradient(sparse):
    """Keras drops the sum of a variable without a gradient in the updating call."""
    optimizer, model = optimizers.SGD(1.0, gradient_accumulation_steps=2), variables()
    before, sums = values(model), [np.zeros(v.shape) for v in model]
    for step, left_out in enumerate([None, 0, None, 1, None, None]):
        grads = gradients(step, model)
        for i, gradient in enumerate(grads):
            if i != left_out:
                sums[i] += keras.ops.convert_to_numpy(gradient)
        if sparse and ON_TENSORFLOW:
            import tensorflow as tf

            grads[0] = tf.IndexedSlices(grads[0], np.arange(20), [20, 3])
        if left_out is not None:
            grads[left_out] = None
        optimizer.apply(grads, model)
    for got, start, total in zip(values(model), before, sums, strict=True):
        np.testing.assert_allclose(got, start - total / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
@pytest.mark.parametrize(
    "option",
    [
        {"gradient_accumulation_steps": 3},
        {"use_ema": True, "ema_momentum": 0.75},
        {"global_clipnorm": 0.5},
    ],
    ids=str,
)
def test_a_subset_of_variables_as_in_keras(name, option):
    """In float64 they agree; 1e-6 in float32 is the rounding of either."""
    # JAX rounds to float32 all the same.
    rtol, ends = 1e-5 if keras.backend.backend() == "jax" else 1e-9, []
    for module in (optimizers, keras.optimizers):
        # Keras rounds hyper-parameters to float32: these it leaves alone.
        betas = {"beta_1": 0.875, "beta_2": 1 - 2**-8, "epsilon": 2**-30}
        options = {**option, **(betas if name == "Adam" else {})}
        optimizer = getattr(module, name)(2**-5, **options)
        model = variables("float64")
        optimizer.build(model)
        train(optimizer, model, range(7), left_out=1, listed=False)
        ends.append(values(model))
    for got, want in zip(*ends, strict=True):
        np.testing.assert_allclose(got, want, rtol=rtol)


def test_adabound_needs_a_rate_to_scale_by():
    class FromZero(Ramp):
        def __call__(self, step):
            return 0.1 * keras.ops.cast(step, "float32")

    for rate in (0, FromZero()):
        with pytest.raises(ValueError, match="Pass `base_learning_rate`"):
            optimizers.AdaBound(rate)
        optimizers.AdaBound(rate, base_learning_rate=0.1)


@pytest.mark.parametrize("make", [optimizers.Adam, keras.optimizers.Adam])
def test_a_function_is_no_rate_to_set(make):
    for optimizer in (
        optimizers.Adam(lambda: 0.1),
        optimizers.Lookahead(make(lambda: 0.1)),
    ):
        with pytest.raises(TypeError, match="because a function computes it"):
            optimizer.learning_rate = 0.2
        optimizer.learning_rate = lambda: 0.3
        assert optimizer.learning_rate == 0.3


@pytest.mark.parametrize(
    "number", [1, np.float32(1), np.int64(1), np.array(1.0)], ids=repr
)
def test_numbers_of_any_kind(number):
    optimizer = optimizers.Adam(number, clipnorm=number, weight_decay=number)
    assert float(keras.ops.convert_to_numpy(optimizer.learning_rate)) == 1.0
    assert type(optimizer.get_config()["clipnorm"]) in (int, float)
    optimizer.learning_rate = number
    for wrong in (True, np.True_, np.nan, np.array(np.inf)):
        with pytest.raises(ValueError, match="a finite number >= 0"):
            optimizers.Adam(wrong)
        with pytest.raises(ValueError, match="a finite number >= 0"):
            optimizer.learning_rate = wrong
