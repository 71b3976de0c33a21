"""Mechanic around whatever can be wrapped; runs on every backend."""

import functools

import keras
import pytest
from keras import ops
from optimizer_cases import EVERY, name_of, third_on_jax
from test_catalogue import apply, assert_close, assert_equal, gradients, values
from test_catalogue import variables as variables_of
from test_wrappers import HOW, by_hand, compiled, constant, fit, trained

from keras_adaptive import optimizers
from keras_adaptive.optimizers import SAM, SGD, Adam, Lookahead, Mechanic
from keras_adaptive.optimizers.wrappers.weights import write

BACKEND = keras.backend.backend()

variables = functools.partial(variables_of, "float32")


def multi():
    rule = keras.optimizers.OptimizerMap(SGD(0.25, use_ema=True))
    rule["bias"] = Lookahead(Adam(0.25), 2)
    return keras.optimizers.MultiOptimizer(rule)


def theirs(name, *args, **options):
    """An optimizer of Keras, if it has one of that name."""
    return getattr(keras.optimizers, name)(*args, **options)


PLAIN = {
    "sgd": lambda: SGD(0.25, momentum=0.75),
    "adam-theirs": lambda: theirs("Adam", 0.25),
    "accumulation": lambda: SGD(0.25, gradient_accumulation_steps=2),
    "accumulation-theirs": lambda: theirs(
        "SGD", 0.25, momentum=0.75, gradient_accumulation_steps=2
    ),
}

POINTS = {
    "schedule-free-sgd": lambda: optimizers.ScheduleFreeSGD(0.25, warmup_steps=3),
    "schedule-free-adamw": lambda: optimizers.ScheduleFreeAdamW(0.25),
    "schedule-free-theirs": lambda: theirs("ScheduleFreeAdamW", 0.25),
    "ftrl": lambda: optimizers.Ftrl(0.25),
    "ftrl-theirs": lambda: theirs("Ftrl", 0.25),
    "dog": lambda: optimizers.DoG(reps_rel=0.25),
    "prodigy": lambda: optimizers.Prodigy(d0=0.125),
    "average": lambda: SGD(0.25, use_ema=True, ema_momentum=0.5),
    "average-theirs": lambda: theirs("Adam", 0.25, use_ema=True, ema_momentum=0.5),
    "overwritten": lambda: SGD(0.25, use_ema=True, ema_overwrite_frequency=2),
    "average-of-accumulated": lambda: SGD(
        0.25, use_ema=True, ema_momentum=0.5, gradient_accumulation_steps=2
    ),
    "lookahead": lambda: Lookahead(Adam(0.25), 2),
    "lookahead-schedule-free": lambda: Lookahead(optimizers.ScheduleFreeSGD(0.25), 2),
    "mechanic": lambda: Mechanic(SGD(0.25), s_init=0.5),
    "multi": multi,
}

WEIGHTS_MATTER = {
    "adamw": lambda: optimizers.AdamW(0.25, weight_decay=0.125),
    "adamw-theirs": lambda: theirs("AdamW", 0.25, weight_decay=0.125),
    "lamb": lambda: optimizers.Lamb(0.25),
}

if not hasattr(keras.optimizers, "ScheduleFreeAdamW"):
    del POINTS["schedule-free-theirs"]


def around(makes):
    return around_these(makes, third_on_jax(makes))


def around_these(makes, names):
    return pytest.mark.parametrize("make", [makes[name] for name in names], ids=names)


class Held(Mechanic):
    """A Mechanic whose tuners leave the scale where it is held."""

    held_at = 1.0

    def _tuned(self, product):
        scale = self._numbers["scale"]
        write(scale, ops.full(scale.shape, self.held_at / len(self.betas)))
        return ops.sum(scale)


class HeldAtAQuarter(Held):
    held_at = 0.25


def halfway_and_on(optimizer):
    """Weights in training, then those to evaluate, then further training."""
    model, found = variables(), []
    found.append(trained(optimizer, gradients(5), model))
    optimizer.finalize_variable_values(model)
    found.append(values(model))
    found.append(trained(optimizer, gradients(8)[5:], model))
    return found


@around(PLAIN | POINTS | WEIGHTS_MATTER)
def test_held_at_one_it_is_its_optimizer(make):
    got = halfway_and_on(Held(make()))
    for g, w in zip(got, halfway_and_on(make()), strict=True):
        assert_close(g, w)


@pytest.mark.slow
@pytest.mark.parametrize("case", third_on_jax(EVERY), ids=name_of)
def test_held_at_one_it_is_any_of_ours(case):
    """Ftrl without its penalties, which Mechanic refuses."""
    penalties = ("l1_regularization_strength", "l2_regularization_strength")
    none = dict.fromkeys(case.arguments.keys() & penalties, 0.0)
    got = trained(Held(case.make(**none)), gradients(4))
    assert_close(got, trained(case.make(**none), gradients(4)), rtol=1e-4)


@around(PLAIN | POINTS)
def test_held_elsewhere_it_is_its_optimizer_scaled(make):
    """Its points, too, are where the optimizer alone has them, seen from the start."""
    assert_scaled(make, HeldAtAQuarter(make()))


@around(PLAIN)
def test_stored_displacement_makes_no_difference(make):
    assert_scaled(make, HeldAtAQuarter(make(), store_delta=True))


def assert_scaled(make, held):
    start, got = values(variables()), halfway_and_on(held)
    for g, w in zip(got, halfway_and_on(make()), strict=True):
        assert_close(g, [a + 0.25 * (b - a) for a, b in zip(start, w, strict=True)])


@pytest.mark.parametrize("s_decay", [0.0, 0.125])
@pytest.mark.parametrize("store_delta", [False, True])
@pytest.mark.parametrize("sgd", [SGD, keras.optimizers.SGD])
def test_accumulated_gradients_are_one_step(sgd, store_delta, s_decay):
    options = {"s_decay": s_decay, "s_init": 0.125, "store_delta": store_delta}
    model = variables()
    optimizer = Mechanic(sgd(0.25, gradient_accumulation_steps=2), **options)
    means, steps = [], gradients(8)
    for first, second in zip(steps[::2], steps[1::2], strict=True):
        before = values(model)
        apply(optimizer, model, first)
        assert_equal(values(model), before)
        apply(optimizer, model, second)
        means.append([(a + b) / 2 for a, b in zip(first, second, strict=True)])
    assert_close(values(model), trained(Mechanic(sgd(0.25), **options), means))
    assert int(optimizer.iterations) == 4


@around(POINTS)
def test_evaluation_point_and_back(make):
    model, optimizer = variables(), Mechanic(make(), s_init=0.125)
    now = trained(optimizer, gradients(5), model)
    optimizer.to_evaluation()
    once = values(model)
    optimizer.to_evaluation()
    assert_equal(values(model), once)
    optimizer.to_training()
    assert not optimizer.evaluating
    assert_close(values(model), now)


def test_schedule_free_is_evaluated_between_start_and_weights():
    """Its average lags behind on a straight way, at any scale."""
    model, start = variables(), values(variables())
    optimizer = Mechanic(optimizers.ScheduleFreeSGD(1.0), s_init=0.125)
    now = trained(optimizer, constant(6), model)
    optimizer.to_evaluation()
    assert optimizer.evaluating
    for first, x, last in zip(start, values(model), now, strict=True):
        assert (last < x).all() and (x < first).all()


def test_weights_that_are_set_in_between_stay_set():
    model, other = variables(), variables()
    both = [Mechanic(POINTS["average"](), s_init=0.125) for _ in range(2)]
    for optimizer, one in zip(both, (model, other), strict=True):
        trained(optimizer, gradients(4), one)
    for variable in model:
        variable.assign(variable + 0.5)
    for optimizer, one in zip(both, (model, other), strict=True):
        trained(optimizer, gradients(6)[4:], one)
    assert_close(values(model), [w + 0.5 for w in values(other)])


@pytest.mark.parametrize("store_delta", [False, True])
@pytest.mark.parametrize("shape", [(0, 3), (0,)])
def test_an_empty_variable_changes_nothing(shape, store_delta):
    ends = []
    for others in ([], [keras.Variable(ops.zeros(shape))]):
        model = [keras.Variable([1.0, 2.0]), *others]
        optimizer = Mechanic(SGD(0.25, momentum=0.5), store_delta=store_delta)
        for _ in range(3):
            grads = [ops.ones(tuple(variable.shape)) for variable in model]
            optimizer.apply(grads, model)
        ends.append(values(model[:1]))
    assert_equal(*ends)


@around(POINTS)
def test_constraints_hold(make):
    model, optimizer = variables(), Mechanic(make(), s_init=0.125)
    for variable in model:
        variable.constraint = keras.constraints.NonNeg()
    for grads in constant(8):
        apply(optimizer, model, grads)
        assert all((w >= 0).all() for w in values(model))
    optimizer.finalize_variable_values(model)
    assert all((w >= 0).all() for w in values(model))
    assert all(variable.constraint is not None for variable in model)


SOME = ("schedule-free-adamw", "lookahead", "accumulation-theirs")
some = around_these(PLAIN | POINTS, SOME)


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW[BACKEND], ids=str)
@some
def test_fit(make, how):
    model = compiled(Mechanic(make(), s_init=2**-6), **how)
    fit(model)
    want = by_hand(Mechanic(make(), s_init=2**-6))
    assert_close(model.get_weights(), want, rtol=1e-4)
    loss = fit(model, epochs=4)
    assert loss[-1] < loss[0]


@pytest.mark.slow
@some
def test_inside_loss_scale(make):
    scaled = keras.optimizers.LossScaleOptimizer(Mechanic(make(), s_init=2**-6), 8.0)
    got, want = compiled(scaled), compiled(Mechanic(make(), s_init=2**-6))
    fit(got)
    fit(want)
    assert_close(got.get_weights(), want.get_weights(), rtol=1e-4)


def test_inside_multi_optimizer():
    rule = keras.optimizers.OptimizerMap(SGD(0.05))
    rule["dense.*kernel"] = SAM(Mechanic(POINTS["schedule-free-sgd"](), s_init=0.125))
    model = compiled(keras.optimizers.MultiOptimizer(rule))
    loss = fit(model, epochs=3)
    assert loss[-1] < loss[0]


@pytest.mark.jax
@some
def test_stateless_apply_under_jit_equals_apply(make):
    import jax

    model, optimizer = variables(), Mechanic(make(), s_init=2**-6)
    optimizer.build(model)
    weights = [v.value for v in model]
    state = [v.value for v in optimizer.variables]
    step = jax.jit(optimizer.stateless_apply)
    for grads in gradients(6):
        weights, state = step(state, [ops.cast(g, "float32") for g in grads], weights)
    assert step._cache_size() == 1
    want = trained(Mechanic(make(), s_init=2**-6), gradients(6))
    assert_close(values(weights), want)


# What has no meaning.


def choosing(*parts):
    """A `MultiOptimizer` that learns of its optimizers when it is built."""
    named = dict(zip(["kernel", "bias", "excluded"], parts * 3, strict=False))
    return keras.optimizers.MultiOptimizer(lambda variable: named[variable.name])


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (lambda: SAM("sgd"), r"cannot wrap SAM, .* Use SAM\(Mechanic"),
        (lambda: Lookahead(SAM("sgd")), r"cannot wrap SAM, .* Use SAM\(Mechanic"),
        (lambda: optimizers.AdamW(use_ema=True), "AdamW with `weight_decay`"),
        (
            lambda: Lookahead(keras.optimizers.AdamW()),
            "AdamW with `weight_decay` together with a moving average, slow weights",
        ),
        (
            lambda: optimizers.Ftrl(l1_regularization_strength=0.5),
            "Ftrl with `l1_regularization_strength`",
        ),
        (lambda: optimizers.Muon(use_ema=True), "Muon with `weight_decay`"),
        (lambda: optimizers.Lamb(use_ema=True), "Lamb with steps in proportion"),
    ],
)
def test_what_cannot_be_wrapped(inner, message):
    with pytest.raises(ValueError, match=message):
        Mechanic(inner())


def test_what_is_found_out_by_build():
    differ = choosing(SGD(), SGD(gradient_accumulation_steps=2))
    for inner, message in (
        (differ, r"`gradient_accumulation_steps`.*\[1, 2\]"),
        (choosing(SAM("sgd")), r"SAM\(Mechanic"),
    ):
        with pytest.raises(ValueError, match=message):
            Mechanic(inner).build(variables())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_unscaled_weights_need_32_bits(dtype):
    for make in (POINTS["average"], POINTS["lookahead"]):
        with pytest.raises(ValueError, match=f"'kernel' is {dtype}"):
            Mechanic(make()).build(variables_of(dtype))
