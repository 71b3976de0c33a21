"""Optimizers around optimizers, ours and Keras's; runs on every backend."""

import json
import re

import keras
import numpy as np
import pytest
from keras import ops
from optimizer_cases import EVERY, WRAPPERS, Ramp, name_of, third_on_jax
from test_catalogue import (
    apply,
    assert_close,
    assert_equal,
    gradients,
    values,
    variables,
)

from keras_adaptive.optimizers import (
    ASAM,
    SAM,
    SGD,
    Adam,
    Lookahead,
    Mechanic,
)

BACKEND = keras.backend.backend()
ADAMS = {"ours": Adam, "theirs": keras.optimizers.Adam}

every = pytest.mark.parametrize("case", WRAPPERS, ids=name_of)
around = pytest.mark.parametrize("adam", ADAMS.values(), ids=ADAMS)


def trained(optimizer, steps, model=None):
    model = model or variables()
    for grads in steps:
        apply(optimizer, model, grads)
    return values(model)


def constant(steps):
    return [[np.ones_like(g) for g in grads] for grads in gradients(steps)]


# Limits, and small cases by hand.


@around
def test_lookahead_that_follows_at_once_is_its_optimizer(adam):
    got = trained(Lookahead(adam(0.1), 1, 1.0), gradients())
    assert_equal(got, trained(adam(0.1), gradients()))


@pytest.mark.parametrize("wrapper", [SAM, ASAM])
@around
def test_sam_that_goes_nowhere_is_its_optimizer(wrapper, adam):
    """With the gradients of every second call."""
    optimizer = wrapper(adam(0.1), rho=0.0)
    got = trained(optimizer, gradients())
    assert_equal(got, trained(adam(0.1), gradients()[1::2]))
    assert int(optimizer.iterations) == len(gradients()) // 2


@around
def test_mechanic_moves_along_the_sum_of_steps(adam):
    model, optimizer = variables(), Mechanic(adam(1.0), s_init=0.25)
    start = values(model)
    trained(optimizer, constant(4), model)
    for w, w_0 in zip(values(model), start, strict=True):
        assert np.allclose(w - w_0, (w - w_0).flat[0], rtol=1e-3)
        assert (w < w_0).all()


@pytest.mark.slow
@pytest.mark.parametrize("case", third_on_jax(EVERY), ids=name_of)
def test_around_any_of_ours(case):
    got = trained(Lookahead(SAM(case.make(), rho=0.0), 1, 1.0), gradients())
    assert_equal(got, trained(case.make(), gradients()[1::2]))


def test_lookahead_counts_updates_not_calls():
    optimizer = Lookahead(SGD(0.25, gradient_accumulation_steps=2), 2, 0.5)
    start, model = values(variables()), variables()
    for call, moved in enumerate([0, 0.25, 0.25, 0.25, 0.25, 0.5], start=1):
        apply(optimizer, model, constant(1)[0])
        assert_close(values(model), [w - moved for w in start])
        assert int(optimizer.iterations) == call // 2


def test_lookahead_around_sam_follows_the_unperturbed_weights():
    optimizer = Lookahead(SAM(SGD(0.25), rho=0.5), 2, 0.5)
    got = trained(optimizer, constant(4))
    assert_close(got, [w - 0.25 for w in values(variables())])


def test_asam_moves_a_weight_by_its_size():
    model = variables()
    start = values(model)
    trained(ASAM(SGD(0.25), rho=0.5), constant(1), model)
    length = np.sqrt(sum(np.sum(w**2) for w in start))
    assert_close(values(model), [w + 0.5 * w**2 / length for w in start])


# What is the optimizer's stays the optimizer's.


@every
def test_learning_rate_is_that_of_the_optimizer(case):
    optimizer = case.make()
    assert float(optimizer.learning_rate) == 2**-4
    optimizer.learning_rate = 0.5
    assert float(optimizer.optimizer.learning_rate) == 0.5
    trained(optimizer, gradients(4))
    assert int(optimizer.iterations) == int(optimizer.optimizer.iterations) > 0


def test_schedules_count_the_steps_of_the_optimizer():
    schedule = Ramp()
    optimizer = SAM(keras.optimizers.SGD(schedule))
    trained(optimizer, gradients(6))
    assert float(optimizer.learning_rate) == float(schedule(3))


@every
def test_options_belong_to_the_optimizer(case):
    for option in ("clipnorm", "weight_decay", "use_ema", "learning_rate"):
        with pytest.raises(TypeError, match=f"`{option}`.*optimizer in it"):
            case.make(**{option: 1.0})
    with pytest.raises(TypeError, match="`colour`"):
        case.make(colour="red")
    with pytest.raises(AttributeError, match="optimizer.optimizer.clipnorm"):
        case.make().clipnorm = 1.0


@pytest.mark.parametrize("options", [{"clipnorm": 0.5}, {"weight_decay": 0.125}])
@around
def test_options_of_the_optimizer_work(adam, options):
    got = trained(Lookahead(adam(0.1, **options), 1, 1.0), gradients())
    assert_equal(got, trained(adam(0.1, **options), gradients()))


def test_exclusion_from_weight_decay_reaches_the_optimizer():
    optimizer = Lookahead(SGD(0.25, weight_decay=0.5))
    optimizer.exclude_from_weight_decay(var_names=["excluded"])
    *_, excluded = trained(optimizer, [[np.zeros_like(g) for g in gradients(1)[0]]])
    assert_equal([excluded], values(variables())[-1:])


def test_loss_scale_of_the_optimizer():
    for wrapper in (SAM, Mechanic):
        scaled, plain = (wrapper(SGD(0.25, loss_scale_factor=f)) for f in (8.0, None))
        assert float(scaled.scale_loss(2.0)) == 16.0
        got = trained(scaled, gradients(scale=8.0))
        assert_close(got, trained(plain, gradients()))


# Arguments.


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SAM(3), TypeError, "SAM: `optimizer` must be a Keras optimizer"),
        (lambda: SAM(None), TypeError, "optimizer=None"),
        (lambda: SAM("sgdd"), ValueError, "sgdd"),
        (lambda: SAM("sgd", rho=-1), ValueError, "`rho`"),
        (lambda: ASAM("sgd", rho=None), ValueError, "ASAM: `rho`"),
        (lambda: Lookahead("sgd", 0), ValueError, "`sync_period`"),
        (lambda: Lookahead("sgd", 2.5), ValueError, "`sync_period`"),
        (lambda: Lookahead("sgd", 5, 0.0), ValueError, "`slow_step_size`"),
        (lambda: Lookahead("sgd", 5, 1.5), ValueError, "`slow_step_size`"),
        (lambda: Mechanic("sgd", betas=[0.5, 1.0]), ValueError, r"betas\[1\]"),
        (lambda: Mechanic("sgd", betas=[]), ValueError, "empty"),
        (lambda: Mechanic("sgd", s_init=0.0), ValueError, "`s_init`"),
        (
            lambda: SAM(keras.optimizers.LossScaleOptimizer(SGD())),
            ValueError,
            r"LossScaleOptimizer\(SAM",
        ),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


@every
def test_config(case):
    optimizer = case.make(name="mine")
    text = json.dumps(keras.optimizers.serialize(optimizer))
    again = keras.optimizers.deserialize(json.loads(text))
    assert type(again) is case.cls and again.name == "mine"
    assert again.get_config() == optimizer.get_config()
    for name in case.arguments.keys() - {"optimizer"}:
        assert getattr(again, name) == case.arguments[name]
    assert again.optimizer.momentum == 0.75


def test_an_optimizer_may_be_a_name_or_a_config():
    assert isinstance(SAM("adam").optimizer, keras.optimizers.Adam)
    config = keras.optimizers.serialize(Adam(0.5, beta_1=0.25))
    before = json.dumps(config)
    inner = SAM(config).optimizer
    assert isinstance(inner, Adam) and inner.beta_1 == 0.25
    assert json.dumps(config) == before


# Evaluation points.


def at_evaluation(optimizer, model):
    optimizer.to_evaluation()
    assert optimizer.evaluating
    found = values(model)
    optimizer.to_evaluation()
    assert_equal(values(model), found)
    return found


@pytest.mark.parametrize("wrapper", [SAM, ASAM])
@pytest.mark.parametrize("calls", [4, 5])
def test_sam_is_evaluated_unperturbed(wrapper, calls):
    model, optimizer = variables(), wrapper(Adam(0.1), rho=0.5)
    now = trained(optimizer, gradients(calls), model)
    unperturbed = trained(wrapper(Adam(0.1), rho=0.5), gradients(4))
    assert_equal(at_evaluation(optimizer, model), unperturbed)
    optimizer.to_training()
    assert not optimizer.evaluating
    assert_equal(values(model), now)
    optimizer.finalize_variable_values(model)
    assert_equal(values(model), unperturbed)


def test_sam_begins_its_step_anew_after_an_evaluation():
    model, optimizer = variables(), SAM(Adam(0.1), rho=0.5)
    trained(optimizer, gradients(5), model)
    optimizer.finalize_variable_values(model)
    got = trained(optimizer, gradients(6)[4:], model)
    assert_equal(got, trained(SAM(Adam(0.1), rho=0.5), gradients(6)))


def test_lookahead_is_evaluated_at_the_slow_weights():
    def make():
        return Lookahead(Adam(0.1), sync_period=4)

    model, optimizer = variables(), make()
    fast = trained(optimizer, gradients(6), model)
    slow = trained(make(), gradients(4))
    assert_equal(at_evaluation(optimizer, model), slow)
    optimizer.to_training()
    assert_equal(values(model), fast)
    optimizer.finalize_variable_values(model)
    assert_equal(values(model), slow)
    got = trained(optimizer, gradients(9)[6:], model)
    assert_equal(got, trained(make(), gradients(9)))


def test_both_at_once_go_to_the_evaluation_point_and_back():
    model = variables()
    optimizer = Lookahead(SAM(Adam(0.1), rho=0.5), sync_period=2)
    now = trained(optimizer, gradients(7), model)
    slow = trained(Lookahead(SAM(Adam(0.1), rho=0.5), 2), gradients(4))
    assert_equal(at_evaluation(optimizer, model), slow)
    optimizer.to_training()
    assert_equal(values(model), now)


@pytest.mark.parametrize("make", [lambda o: o, SAM, lambda o: Lookahead(o, 4)])
def test_a_moving_average_of_the_optimizer_is_evaluated(make):
    model = variables()
    optimizer = make(keras.optimizers.SGD(0.25, use_ema=True, ema_momentum=0.5))
    trained(optimizer, constant(6), model)
    optimizer.finalize_variable_values(model)
    inner = getattr(optimizer, "optimizer", optimizer)
    averages = inner._model_variables_moving_average
    assert_equal(values(model), values(averages))


def test_mechanic_is_evaluated_where_it_is():
    model, optimizer = variables(), Mechanic(Adam(1.0))
    now = trained(optimizer, gradients(), model)
    optimizer.to_evaluation()
    optimizer.finalize_variable_values(model)
    assert not optimizer.evaluating
    assert_equal(values(model), now)


@every
def test_weights_may_be_set_between_build_and_training(case):
    model, other, optimizer = variables(), variables(), case.make()
    optimizer.build(model)
    for variable, one in zip(model, other, strict=True):
        variable.assign(one + 1)
        one.assign(one + 1)
    got = trained(optimizer, gradients(), model)
    assert_equal(got, trained(case.make(), gradients(), other))


@every
def test_missing_gradients(case):
    steps = [[kernel, None, other] for kernel, _, other in gradients()]
    model, optimizer = variables(), case.make()
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        trained(optimizer, steps, model)
    assert_equal(values(model)[1:2], values(variables())[1:2])
    with pytest.raises(ValueError, match="no variable has a gradient"):
        optimizer.apply([None] * 3, model)
    with pytest.raises(ValueError, match="2 gradients for 3 variables"):
        optimizer.apply([None] * 2, model)


@every
def test_constraints_hold_after_each_step(case):
    model, optimizer = variables(), case.make()
    for variable in model:
        variable.constraint = keras.constraints.NonNeg()
    steps = 2 if isinstance(optimizer, (SAM, ASAM)) else 1
    for grads in np.reshape(np.array(constant(8), object), (-1, steps, 3)):
        trained(optimizer, grads, model)
        assert all((w >= 0).all() for w in values(model))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@every
def test_16_bits(case, dtype):
    model = variables(dtype)
    got = trained(case.make(), gradients(), model)
    assert all(np.isfinite(w).all() for w in got)
    want = trained(case.make(), gradients())
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=0.1, atol=0.1)


# Through models.


def compiled(optimizer, **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(1)]
    )
    model.compile(optimizer, "mse", **options)
    return model


DATA = np.random.default_rng(2).normal(size=(2, 56, 4)).astype("float32")


def fit(model, epochs=1):
    """Seven batches an epoch."""
    x, y = DATA[0], DATA[1][:, :1]
    options = {"batch_size": 8, "epochs": epochs, "shuffle": False, "verbose": 0}
    history = model.fit(x, y, **options).history
    return history["loss"]


HOW = {
    "tensorflow": [
        {"run_eagerly": True},
        {"jit_compile": False},
        {"jit_compile": True},
    ],
    "jax": [{"jit_compile": True}],
    "torch": [{"jit_compile": False}],
}


def by_hand(optimizer):
    """What `fit` does, by `apply` on gradients from finite differences."""
    model = compiled(optimizer)
    trainable = model.trainable_variables
    for start in range(0, 56, 8):
        x, y = DATA[0][start : start + 8], DATA[1][start : start + 8, :1]
        w_1, b_1, w_2, b_2 = values(trainable)
        hidden = np.tanh(x @ w_1 + b_1)
        error = 2 * (hidden @ w_2 + b_2 - y) / len(y)
        back = (error @ w_2.T) * (1 - hidden**2)
        grads = [x.T @ back, back.sum(0), hidden.T @ error, error.sum(0)]
        apply(optimizer, trainable, grads)
    optimizer.finalize_variable_values(trainable)
    return values(trainable)


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW[BACKEND], ids=str)
@every
def test_fit(case, how):
    model = compiled(case.make(), **how)
    fit(model)
    assert_close(model.get_weights(), by_hand(case.make()), rtol=1e-4)
    loss = fit(model, epochs=4)
    assert loss[-1] < loss[0]


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW[BACKEND], ids=str)
@pytest.mark.parametrize("wrapper", [Lookahead, SAM])
@around
def test_fit_around_adam_inside_loss_scale(wrapper, adam, how):
    scaled = keras.optimizers.LossScaleOptimizer(wrapper(adam(0.05)), 8.0)
    got = compiled(scaled, **how)
    want = compiled(wrapper(adam(0.05)), **how)
    fit(got)
    fit(want)
    assert_close(got.get_weights(), want.get_weights(), rtol=1e-4)


def test_inside_multi_optimizer():
    rule = keras.optimizers.OptimizerMap(SAM(SGD(0.05), rho=0.5))
    rule["dense.*kernel"] = Lookahead(Adam(0.05))
    model = compiled(keras.optimizers.MultiOptimizer(rule))
    loss = fit(model, epochs=3)
    assert loss[-1] < loss[0]


def parts(model):
    """The states of a model's optimizer and of those in it."""
    optimizer, found = model.optimizer, {}
    while optimizer is not None:
        found |= {f"{optimizer.name}/{i}": v for i, v in enumerate(optimizer.variables)}
        optimizer = getattr(optimizer, "optimizer", None)
    return {name: np.asarray(ops.convert_to_numpy(v)) for name, v in found.items()}


NESTED = {
    "asam": lambda adam: ASAM(adam(0.05)),
    "lookahead": lambda adam: Lookahead(adam(0.05), sync_period=4),
    "lookahead-sam": lambda adam: Lookahead(SAM(adam(0.05), rho=0.5), 2),
    "mechanic": lambda adam: Mechanic(adam(1.0)),
    "mechanic-accumulation": lambda adam: Mechanic(
        adam(1.0, gradient_accumulation_steps=2)
    ),
    "mechanic-average": lambda adam: Mechanic(adam(1.0, use_ema=True)),
    "mechanic-lookahead": lambda adam: Mechanic(Lookahead(adam(1.0), 2)),
    "sam-mechanic": lambda adam: SAM(Mechanic(adam(1.0), store_delta=True)),
    "loss-scale": lambda adam: keras.optimizers.LossScaleOptimizer(SAM(adam(0.05))),
}


def batches(model, start, stop):
    for begin in range(8 * start, 8 * stop, 8):
        x, y = DATA[0][begin : begin + 8], DATA[1][begin : begin + 8, :1]
        model.train_on_batch(x, y)
    return model


def saved_and_loaded(model, folder):
    model.save(folder / "model.keras")
    again = keras.saving.load_model(folder / "model.keras")
    got, want = parts(again), parts(model)
    assert got.keys() == want.keys()
    assert_equal(got.values(), want.values())
    return again


@pytest.mark.slow
@pytest.mark.parametrize("name", third_on_jax(NESTED))
@around
def test_saved_model_goes_on_as_if_nothing_had_happened(adam, name, tmp_path):
    model = batches(compiled(NESTED[name](adam)), 0, 5)
    again = saved_and_loaded(model, tmp_path)
    for continued in (model, again):
        batches(continued, 5, 7)
    assert_equal(again.get_weights(), model.get_weights())


def test_model_saved_at_its_evaluation_point_goes_on_from_the_other(tmp_path):
    model = batches(compiled(NESTED["lookahead-sam"](Adam)), 0, 5)
    model.optimizer.finalize_variable_values(model.trainable_variables)
    again = saved_and_loaded(model, tmp_path)
    whole = batches(compiled(NESTED["lookahead-sam"](Adam)), 0, 5)
    for continued in (again, whole):
        continued.optimizer.to_training()
        batches(continued, 5, 7)
    assert_equal(again.get_weights(), whole.get_weights())


def stored(optimizer):
    store = {}
    optimizer.save_own_variables(store)
    return store


def built(optimizer):
    optimizer.build(variables())
    return optimizer


def test_state_is_kept_by_name_and_waits_for_build():
    optimizer = Lookahead(SAM(Adam()))
    trained(optimizer, gradients(3))
    store = stored(optimizer)
    assert {"slow:0", "slow:2", "evaluating", "iteration"} <= store.keys()
    again = Lookahead(SAM(Adam()))
    assert not stored(again)
    again.load_own_variables(store)
    # On other weights, which the identities of variables tell.
    got = stored(built(again))
    assert got.keys() == store.keys()
    assert_equal(
        [got[n] for n in got if n != "variables"],
        [store[n] for n in got if n != "variables"],
    )


@pytest.mark.parametrize(
    ("saved", "into", "message"),
    [
        (SAM("sgd"), ASAM("sgd"), "ASAM(SGD) cannot load the state of SAM(SGD)"),
        (SAM("adam"), SAM("sgd"), "SAM(SGD) cannot load the state of SAM(Adam)"),
        (
            Lookahead(SAM("sgd")),
            Lookahead("sgd"),
            "Lookahead(SGD) cannot load the state of Lookahead(SAM(SGD))",
        ),
    ],
)
def test_another_state_is_refused(saved, into, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        built(into).load_own_variables(stored(built(saved)))


@pytest.mark.jax
@every
def test_stateless_apply_under_jit_equals_apply(case):
    import jax

    model, optimizer = variables(), case.make()
    optimizer.build(model)
    weights = [v.value for v in model]
    state = [v.value for v in optimizer.variables]
    step = jax.jit(optimizer.stateless_apply)
    for grads in gradients():
        weights, state = step(state, [ops.cast(g, "float32") for g in grads], weights)
    assert step._cache_size() == 1
    assert_close(values(weights), trained(case.make(), gradients()))


@pytest.mark.jax
@every
def test_evaluation_point_under_jit(case):
    import jax

    model, optimizer = variables(), case.make()
    trained(optimizer, gradients(5), model)
    held = [*model, *optimizer.variables]

    @jax.jit
    def finalized(now):
        with keras.StatelessScope(state_mapping=zip(held, now, strict=True)) as scope:
            optimizer.finalize_variable_values(model)
        return [scope.get_current_value(v) for v in held]

    once = finalized([v.value for v in held])
    twice = finalized(once)
    optimizer.finalize_variable_values(model)
    assert_close(values(once), values(held))
    assert_equal(values(twice), values(once))
