"""Bad input: a clear error, and nothing has changed."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from optimizer_cases import CASES, CLASSES
from sparse_problem import HEIGHT, WIDTH, batches, variables
from training import gradients, stepper, values

from keras_adaptive import optimizers
from keras_adaptive.optimizers import AdaptiveOptimizer

pytestmark = pytest.mark.tensorflow

NOT_NUMBERS = [-1.0, math.nan, math.inf, -math.inf, True, "0.1"]
DECAY_RATES = {"beta_1", "beta_2", "rho", "momentum"}


class NoClosedForm(AdaptiveOptimizer):
    def rule(self, gradient, state, hyper):
        return hyper.learning_rate * gradient, {}


@pytest.mark.parametrize("cls", CLASSES)
def test_unknown_sparse_mode_suggests_the_nearest(cls):
    with pytest.raises(ValueError, match="Did you mean 'deferred'") as error:
        cls(sparse="defered")
    assert cls.__name__ in str(error.value) and "'defered'" in str(error.value)
    for bad in ("", 3, True):
        with pytest.raises(ValueError, match="deferred, lazy, dense"):
            cls(sparse=bad)


def test_deferred_needs_a_closed_form():
    assert NoClosedForm(0.1).sparse == "lazy"
    with pytest.raises(ValueError, match="no closed form.*sparse='lazy'"):
        NoClosedForm(0.1, sparse="deferred")


def test_deferred_adam_needs_a_ratio_of_at_most_one():
    with pytest.raises(ValueError, match=r"beta_1 <= sqrt\(beta_2\)"):
        optimizers.Adam(beta_1=0.9, beta_2=0.8, sparse="deferred")
    assert optimizers.Adam(beta_1=0.9, beta_2=0.8).sparse == "lazy"
    assert optimizers.Adam(beta_1=0.9, beta_2=0.81).sparse == "deferred"
    amsgrad = optimizers.Adam(beta_1=0.9, beta_2=0.8, amsgrad=True, sparse="deferred")
    assert amsgrad.sparse == "deferred"


@pytest.mark.parametrize("cls", CLASSES)
def test_hyper_parameters_outside_their_bounds(cls):
    numeric = {*cls.constraints, "learning_rate", "weight_decay", "loss_scale_factor"}
    numeric |= {"clipnorm", "clipvalue", "global_clipnorm", "ema_momentum"}
    for name in numeric:
        bad = [*NOT_NUMBERS, *([1.0] if name in DECAY_RATES else [])]
        for value in bad:
            with pytest.raises(ValueError, match=f"{cls.__name__}.*`{name}`"):
                cls(**{name: value})
            optimizer = cls()
            with pytest.raises(ValueError, match=f"{cls.__name__}.*`{name}`"):
                setattr(optimizer, name, value)
            assert optimizer.get_config()[name] == cls().get_config()[name]
    for name in ("clipnorm", "clipvalue", "global_clipnorm", "loss_scale_factor"):
        with pytest.raises(ValueError, match=name):
            cls(**{name: 0.0})
    for name in ("gradient_accumulation_steps", "ema_overwrite_frequency"):
        for value in (0, 1.5, -2, True, "3"):
            with pytest.raises(ValueError, match=name):
                cls(**{name: value}, use_ema=True)


@pytest.mark.parametrize("cls", CLASSES)
def test_unknown_arguments(cls):
    with pytest.raises(TypeError, match="beta_3"):
        cls(beta_3=0.5)


def test_adamw_needs_weight_decay():
    with pytest.raises(ValueError, match="AdamW.*`weight_decay`"):
        optimizers.AdamW(weight_decay=None)


def test_only_one_way_of_clipping():
    with pytest.raises(ValueError, match="Only one of"):
        optimizers.Adam(clipnorm=1.0, clipvalue=1.0)


def slices(ids, values=None, shape=(HEIGHT, WIDTH)):
    ids = np.asarray(ids)
    values = np.ones((len(ids), WIDTH)) if values is None else values
    return tf.IndexedSlices(tf.constant(values), tf.constant(ids), tf.constant(shape))


BAD_GRADIENTS = {
    "shape": (lambda: tf.ones((HEIGHT, WIDTH + 1)), "must have the variable's shape"),
    "height": (lambda: tf.ones((HEIGHT - 1, WIDTH)), "must have the variable's shape"),
    "rank": (lambda: tf.ones((HEIGHT,)), "must have the variable's shape"),
    "row width": (lambda: slices([1], np.ones((1, WIDTH + 1))), "variable's shape"),
    "row rank": (lambda: slices([1], np.ones(1)), "variable's shape"),
    "integers": (lambda: tf.ones((HEIGHT, WIDTH), tf.int32), "float dtype.*int32"),
    "bools": (lambda: tf.ones((HEIGHT, WIDTH), tf.bool), "float dtype.*bool"),
    "integer rows": (lambda: slices([1], np.ones((1, WIDTH), int)), "float dtype"),
}


def state(optimizer, model):
    # Which row is taken in turn next is all that an error may move on.
    kept = [v for v in optimizer.variables if not v.name.startswith("cursor")]
    return [*values(model), *(np.array(v.numpy()) for v in kept)]


def trained(case, **options):
    model, optimizer = variables(), case.make(**options)
    stepper(optimizer, model, how="eager")(batches(1)[0])
    return optimizer, model


def assert_unchanged(got, want):
    for g, w in zip(got, want, strict=True):
        np.testing.assert_array_equal(g, w)


@pytest.mark.parametrize("bad", BAD_GRADIENTS)
def test_bad_gradients(bad):
    make, message = BAD_GRADIENTS[bad]
    optimizer, model = trained(CASES[5])
    before = state(optimizer, model)
    others = gradients(batches(1)[0], model, sparse=True)[1:]
    for grads, order in (
        ([make(), *others], model),
        # The bad one last: those before it must not have been applied.
        ([*others, make()], [*model[1:], model[0]]),
    ):
        with pytest.raises(ValueError, match=f"(?s)table.*{message}|{message}.*table"):
            optimizer.apply(grads, order)
    assert_unchanged(state(optimizer, model), before)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["eager", "graph"])
@pytest.mark.parametrize("mode", ["deferred", "lazy", "dense"])
@pytest.mark.parametrize("ids", [[0, HEIGHT], [3, -1], [2**31 + 3]], ids=str)
def test_row_ids_out_of_range(ids, mode, how):
    optimizer, model = trained(CASES[5], sparse=mode, weight_decay=0.1)
    before = state(optimizer, model)
    cube, bias = gradients(batches(1)[0], model, sparse=True)[1:]

    def step(ids, values):
        shape = tf.constant([HEIGHT, WIDTH])
        # The good ones first: they must not have been applied.
        grads = [bias, cube, tf.IndexedSlices(values, ids, shape)]
        optimizer.apply(grads, model[::-1])

    if how == "graph":
        signature = tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, WIDTH])
        step = tf.function(step, input_signature=signature, autograph=False)
    errors = tf.errors.InvalidArgumentError
    with pytest.raises(errors, match="(?s)table.*outside"):
        step(tf.constant(ids, tf.int64), tf.ones((len(ids), WIDTH)))
    assert_unchanged(state(optimizer, model), before)


def test_number_of_gradients():
    optimizer, model = trained(CASES[5])
    before = state(optimizer, model)
    grads = gradients(batches(1)[0], model, sparse=True)
    with pytest.raises(ValueError, match="2 gradients for 3 variables"):
        optimizer.apply(grads[:2], model)
    with pytest.raises(ValueError, match="(?i)gradients"):
        optimizer.apply(grads[:2])
    assert_unchanged(state(optimizer, model), before)


def test_unknown_variable():
    optimizer, _ = trained(CASES[5])
    stranger = keras.Variable(np.zeros(2), name="stranger")
    with pytest.raises(ValueError, match="Unknown variable"):
        optimizer.apply([tf.ones(2)], [stranger])


def test_apply_before_build_without_variables():
    with pytest.raises(ValueError, match="must already be built"):
        optimizers.Adam().apply([tf.ones(2)])


BAD_VARIABLES = {
    "complex": (lambda: tf.Variable([1 + 2j]), "complex.*two float variables"),
    "unknown length": (
        lambda: tf.Variable([1.0], shape=[None]),
        r"shape \(None,\).*fixed shape only",
    ),
}
AROUND = {
    "itself": optimizers.Adam,
    "Keras's": lambda: optimizers.Lookahead(keras.optimizers.SGD()),
}


@pytest.mark.parametrize("bad", BAD_VARIABLES)
@pytest.mark.parametrize("around", AROUND)
def test_variables_for_which_no_state_can_be_made(around, bad):
    make, message = BAD_VARIABLES[bad]
    variable, optimizer = make(), AROUND[around]()
    for call in (
        lambda: optimizer.build([variable]),
        lambda: optimizer.apply([tf.ones(1, variable.dtype)], [variable]),
    ):
        with pytest.raises(ValueError, match=message):
            call()
        assert not optimizer.built


def test_a_counter_that_is_trainable_by_mistake():
    counter = keras.Variable(0, dtype="int32", name="counter")
    weight = keras.Variable(1.0)
    optimizer = optimizers.SGD(0.5)
    with pytest.warns(UserWarning, match="counter"):
        optimizer.apply([None, tf.ones(())], [counter, weight])
    assert (int(counter), float(weight)) == (0, 0.5)
    with pytest.raises(ValueError, match="counter.*int32.*float dtype only"):
        optimizer.apply([tf.ones(()), tf.ones(())], [counter, weight])
