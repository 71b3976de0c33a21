"""Sparse gradients through optimizers around optimizers."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from optimizer_cases import WRAPPERS, name_of
from sparse_problem import batches, variables
from test_resume import END, STOP, assert_equal, model_of, train
from training import distance, gradients, stepper, trajectory, values

from keras_adaptive.optimizers import SAM, Adam, Lookahead, Mechanic

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

MAKE = {
    "sam": lambda inner: SAM(inner, rho=0.5),
    "lookahead": lambda inner: Lookahead(inner, sync_period=4),
    "lookahead-sam": lambda inner: Lookahead(SAM(inner, rho=0.5), sync_period=2),
    "mechanic": lambda inner: Mechanic(inner, store_delta=True),
}

made = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


def adam(sparse):
    return Adam(0.02, epsilon=2**-45, weight_decay=0.1, sparse=sparse)


@functools.cache
def dense(make):
    return trajectory(make(adam("dense")), sparse=False, how="eager")


@pytest.mark.parametrize("how", ["eager", "graph", "xla"])
@made
def test_dense_updates_equal_those_of_dense_gradients(make, how):
    got = trajectory(make(adam("dense")), sparse=True, how=how)
    assert max(map(distance, got, dense(make))) < 1e-9


@pytest.mark.parametrize("flush", [(), (2, 3, 6)], ids=["", "flushed"])
@made
def test_deferred_rows_end_where_dense_updates_do(make, flush):
    got = trajectory(make(adam("deferred")), sparse=True, flush=flush)
    assert distance(got[-1], dense(make)[-1]) < 1e-9


def test_deferred_rows_of_a_multi_optimizer():
    """Lookahead brings them up to date before it moves them."""
    inner = keras.optimizers.OptimizerMap(adam("deferred"))
    make = MAKE["lookahead"]
    got = trajectory(make(keras.optimizers.MultiOptimizer(inner)), sparse=True)
    assert distance(got[-1], dense(make)[-1]) < 1e-9


def test_deferred_rows_under_xla():
    make = MAKE["lookahead-sam"]
    got = trajectory(make(adam("deferred")), sparse=True, how="xla")
    assert distance(got[-1], dense(make)[-1]) < 1e-9


@pytest.mark.parametrize("case", WRAPPERS, ids=name_of)
def test_around_keras_s_sgd(case):
    """The one that is right for repeated ids."""
    got = trajectory(case.make(), sparse=True)
    want = trajectory(case.make(), sparse=False)
    assert max(map(distance, got, want)) < 1e-9


def test_loss_scale_around_and_inside():
    """Gradients of 16 times the size do not matter to where SAM goes."""
    inside = SAM(Adam(0.02, loss_scale_factor=16.0), rho=0.5)
    got = trajectory(inside, sparse=True)
    want = trajectory(SAM(Adam(0.02), rho=0.5), sparse=True)
    assert max(map(distance, got, want)) < 1e-9


def test_sam_moves_the_rows_of_the_gradient_only():
    model = variables()
    before, optimizer = values(model), SAM(Adam(0.02), rho=0.5)
    batch = batches(1)[0]
    stepper(optimizer, model)(batch)
    table, rows = values(model)[0], np.unique(batch[0])
    moved = (table != before[0]).any(axis=1)
    one_hot = gradients(batch, model, sparse=False)[0].numpy()
    assert set(rows) >= set(np.flatnonzero(moved)) == set(np.nonzero(one_hot)[0])


def test_row_ids_are_checked_before_anything_moves():
    model, optimizer = variables(), SAM(Adam(0.02))
    before = values(model)
    ids, *others = batches(1)[0]
    with pytest.raises(tf.errors.InvalidArgumentError, match="outside"):
        stepper(optimizer, model, how="eager")((np.full_like(ids, 11), *others))
    assert_equal(values(model), before)


@pytest.mark.parametrize("stop", [STOP, STOP + 1])
def test_model_file(stop, tmp_path):
    """Row state belongs to the optimizer inside, which Keras saves as a child."""
    make = MAKE["lookahead-sam"]
    whole = train(model_of(make(adam("deferred"))))
    part = train(model_of(make(adam("deferred"))), stop=stop)
    part.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    train(again, start=stop, stop=END)
    assert_equal(again.get_weights(), whole.get_weights())


def test_weights_file_before_the_optimizer_is_built(tmp_path):
    def make():
        return model_of(MAKE["lookahead-sam"](adam("deferred")))

    part = train(make(), stop=STOP)
    part.save_weights(tmp_path / "model.weights.h5")
    again = make()
    again.load_weights(tmp_path / "model.weights.h5")
    assert_equal(train(again, start=STOP).get_weights(), train(make()).get_weights())


def test_checkpoint(tmp_path):
    def make():
        return model_of(MAKE["lookahead-sam"](keras.optimizers.Adam(0.02)))

    part = train(make(), stop=STOP)
    path = tf.train.Checkpoint(model=part, optimizer=part.optimizer).save(
        str(tmp_path / "checkpoint")
    )
    again = make()
    again.optimizer.build(again.trainable_variables)
    tf.train.Checkpoint(model=again, optimizer=again.optimizer).restore(
        path
    ).assert_consumed()
    assert_equal(train(again, start=STOP).get_weights(), train(make()).get_weights())
