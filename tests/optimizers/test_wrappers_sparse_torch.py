"""Sparse gradients through optimizers around optimizers, on PyTorch."""

import functools

import keras
import numpy as np
import pytest
from optimizer_cases import WRAPPERS, name_of
from sparse_problem import HEIGHT, batches, variables
from test_sparse_torch import assert_close, gradients, numbers, train, trained

from keras_adaptive.optimizers import ASAM, SAM, Adam, Lookahead, Mechanic

pytestmark = pytest.mark.torch

MAKE = {
    "sam": lambda inner: SAM(inner, rho=0.5),
    "asam": lambda inner: ASAM(inner, rho=0.5),
    "lookahead": lambda inner: Lookahead(inner, sync_period=4),
    "lookahead-sam": lambda inner: Lookahead(SAM(inner, rho=0.5), sync_period=2),
    "mechanic": lambda inner: Mechanic(inner),
    "mechanic-delta": lambda inner: Mechanic(inner, store_delta=True),
    "lookahead-multi": lambda inner: Lookahead(
        keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(inner)),
        sync_period=4,
    ),
}
made = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


def adam(sparse):
    return Adam(0.02, epsilon=2**-45, weight_decay=0.1, sparse=sparse)


@functools.cache
def dense(make):
    return trained(make(adam("dense")), by_row=False)


@made
@pytest.mark.parametrize("mode", ["dense", "deferred"])
def test_sparse_gradients_end_where_dense_ones_do(make, mode):
    assert_close(trained(make(adam(mode))), dense(make), 1e-9)


@made
def test_flushed_in_between(make):
    optimizer, model = make(adam("deferred")), variables()
    for batch in batches(13):
        train(optimizer, model, [batch])
        optimizer.flush()
    optimizer.finalize_variable_values(model)
    assert_close(numbers(model), dense(make), 1e-9)


@pytest.mark.parametrize("case", WRAPPERS, ids=name_of)
def test_around_keras_s_sgd(case):
    assert_close(trained(case.make()), trained(case.make(), by_row=False), 1e-9)


def test_sam_moves_the_rows_of_the_gradient_only():
    model, batch = variables(), batches(1)[0]
    before, optimizer = numbers(model)[0], SAM(Adam(0.02), rho=0.5)
    train(optimizer, model, [batch])
    moved = np.flatnonzero((numbers(model)[0] != before).any(axis=1))
    gradient = gradients(batch, model, by_row=False)[0].numpy()
    np.testing.assert_array_equal(moved, np.unique(np.nonzero(gradient)[0]))


@pytest.mark.parametrize("make", [SAM, ASAM])
def test_row_ids_are_checked_before_anything_moves(make):
    model = variables()
    before, optimizer = numbers(model), make(Adam(0.02))
    ids, *others = batches(1)[0]
    given = gradients((ids, *others), model, by_row=True)
    given[0]._indices()[0, 0] = HEIGHT
    with pytest.raises(ValueError, match="outside"):
        optimizer.apply(given, model)
    for got, want in zip(numbers(model), before, strict=True):
        np.testing.assert_array_equal(got, want)
