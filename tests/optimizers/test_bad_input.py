"""Bad input is refused with a clear error, before anything changes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_adaptive import optimizers
from keras_adaptive.optimizers import AdaptiveOptimizer, Slot


class WithoutClosedForm(AdaptiveOptimizer):
    slots = {"velocity": Slot()}

    def __init__(self, learning_rate=0.1, **options):
        super().__init__(learning_rate, **options)

    def rule(self, gradient, state, hyper):
        return hyper.learning_rate * gradient, state


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"sparse": "lasy"}, "Did you mean 'lazy'"),
        ({"sparse": 3}, "one of deferred, lazy, dense"),
        ({"beta_1": 1.0}, "`beta_1` must be a finite number >= 0 and < 1"),
        ({"beta_2": -0.1}, "beta_2"),
        ({"epsilon": -1e-7}, "epsilon"),
        ({"epsilon": float("nan")}, "epsilon"),
        ({"learning_rate": -0.1}, "learning_rate"),
        ({"learning_rate": float("inf")}, "learning_rate"),
        ({"weight_decay": float("nan")}, "weight_decay"),
        ({"clipnorm": 0.0}, "clipnorm"),
        ({"global_clipnorm": -1.0}, "global_clipnorm"),
        ({"clipvalue": "1"}, "clipvalue"),
        ({"ema_momentum": 1.1}, "ema_momentum"),
        ({"gradient_accumulation_steps": 1}, "an integer >= 2, or None"),
        ({"gradient_accumulation_steps": 2.5}, "an integer >= 2"),
        ({"loss_scale_factor": 0}, "loss_scale_factor"),
        ({"beta_1": True}, "beta_1"),
        ({"beta_1": 0.9, "beta_2": 0.5, "sparse": "deferred"}, "beta_1 <= sqrt"),
    ],
)
def test_constructor(arguments, message):
    with pytest.raises(ValueError, match="Adam") as error:
        optimizers.Adam(**arguments)
    assert message in str(error.value)


def test_unknown_argument():
    with pytest.raises(TypeError, match="momentum"):
        optimizers.Adam(momentum=0.9)


def test_hyper_parameters_are_checked_when_they_are_changed():
    optimizer = optimizers.RMSprop(0.1)
    for name in ("rho", "momentum", "learning_rate"):
        with pytest.raises(ValueError, match=name):
            setattr(optimizer, name, float("nan"))
    with pytest.raises(ValueError, match="weight_decay"):
        optimizers.AdamW(weight_decay=None)


def test_deferred_needs_a_closed_form():
    assert WithoutClosedForm().sparse == "lazy"
    with pytest.raises(ValueError, match="WithoutClosedForm has no closed form"):
        WithoutClosedForm(sparse="deferred")
    assert optimizers.Adam(beta_1=0.9, beta_2=0.5).sparse == "lazy"


def refused(gradient, error, message, how="eager"):
    table = keras.Variable(np.ones((5, 2)), dtype="float32", name="table")
    for mode in ("deferred", "lazy", "dense"):
        optimizer = optimizers.Adam(0.1, sparse=mode)
        optimizer.build([table])

        def step(optimizer=optimizer):
            optimizer.apply([gradient()], [table])

        with pytest.raises(error, match=message):
            (tf.function(step) if how == "graph" else step)()
        assert int(optimizer.iterations) == 0
        for variable in optimizer.variables[2:]:
            if "momentum" in variable.path or "velocity" in variable.path:
                assert not variable.numpy().any()
    np.testing.assert_array_equal(table.numpy(), 1)


def slices(ids, width=2):
    ids = np.asarray(ids, "int64")
    return tf.IndexedSlices(tf.ones((len(ids), width)), ids, tf.constant([5, width]))


@pytest.mark.parametrize("how", ["eager", "graph"])
def test_gradients(how):
    invalid = tf.errors.InvalidArgumentError
    refused(lambda: tf.ones((5, 3)), ValueError, r"shape \(5, 2\)", how)
    refused(lambda: tf.ones((5, 2), tf.int32), ValueError, "float dtype", how)
    refused(lambda: slices([1], 3), ValueError, r"shape \(5, 2\)", how)
    refused(lambda: slices([4, 5]), invalid, r"outside \[0, 5\)", how)
    refused(lambda: slices([-1, 2]), invalid, r"outside \[0, 5\)", how)
    refused(lambda: slices([]), ValueError, "no rows", how)


def test_batch_that_turns_out_empty():
    def gradient():
        ids = tf.boolean_mask(tf.constant([1, 2]), tf.constant([False, False]))
        return tf.IndexedSlices(tf.gather(tf.ones((5, 2)), ids), ids, [5, 2])

    refused(gradient, tf.errors.InvalidArgumentError, "no rows", "graph")


def test_number_of_gradients():
    variables = [keras.Variable(np.ones(2)) for _ in range(2)]
    with pytest.raises(ValueError, match="1 gradients for 2 variables"):
        optimizers.Adagrad().apply([tf.ones(2)], variables)
