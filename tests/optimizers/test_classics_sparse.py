"""SGD, Adadelta, Adamax, Nadam, Ftrl and Lion on rows of a table."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from optimizer_cases import CATALOGUE, Ramp, name_of
from test_classics import CLASSES
from test_deferred import OPTIONS, WIDTH, batches, trajectory

from keras_adaptive.optimizers import SGD, Ftrl, Lion, Nadam

pytestmark = pytest.mark.tensorflow

DEFERRED = [c for c in CATALOGUE if c.cls in CLASSES and c.cls is not Ftrl]
FTRL = next(case for case in CATALOGUE if case.cls is Ftrl)


def assert_equals_dense(case, **options):
    """Rows that missed steps are where they are after dense ones, to rounding."""
    got = trajectory(case.make(sparse="deferred", **options))[-1]
    want = trajectory(case.make(sparse="dense", **options), "eager")[-1]
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("case", DEFERRED, ids=name_of)
def test_deferred_equals_dense(case):
    assert_equals_dense(case, **OPTIONS["average"])


@pytest.mark.parametrize("accumulation", [None, 3])
@pytest.mark.parametrize("cautious", [False, True])
def test_deferred_ftrl_equals_dense(cautious, accumulation):
    assert_equals_dense(
        FTRL,
        learning_rate=Ramp(),
        cautious=cautious,
        gradient_accumulation_steps=accumulation,
    )


@pytest.mark.parametrize(("epsilon", "tolerance"), [(1e-3, 2e-4), (1e-7, 2e-8)])
def test_deferred_nadam_corrects_epsilon_as_its_rule_does(epsilon, tolerance):
    """√v is about 0.03 at first, where the rule adds ε / 30."""
    height, steps = 101, 48
    values = np.random.default_rng(1).uniform(0.25, 3, (steps, 2, WIDTH))
    ids = np.random.default_rng(0).integers(0, height - 1, (steps, 2))
    ids[np.arange(steps) % 12 > 0] = height - 1

    def moved(mode):
        table = keras.Variable(np.ones((height, WIDTH)), dtype="float64")
        optimizer = Nadam(0.01, epsilon=epsilon, sparse=mode)
        for rows, each in zip(ids, values, strict=True):
            shape = tf.constant([height, WIDTH])
            optimizer.apply([tf.IndexedSlices(each, rows, shape)], [table])
        optimizer.finalize_variable_values([table])
        return table.numpy() - 1

    want = moved("dense")
    off = np.abs(moved("deferred") - want).max() / np.abs(want).max()
    assert off < tolerance


def test_deferred_cautious_lion_equals_dense():
    case = next(case for case in DEFERRED if case.cls is Lion)
    assert_equals_dense(case, cautious=True, **OPTIONS["average"])


def test_rows_of_ftrl_that_no_batch_touches_are_exactly_zero():
    touched = np.unique(np.concatenate([ids for ids, _ in batches()]))
    others = np.delete(trajectory(FTRL.make(), "eager")[-1], touched, axis=0)
    assert len(others) and (others == 0).all()


def test_lazy_ftrl_that_starts_from_zeros_equals_dense():
    """Also with weight decay: weights are set anew at every step."""
    gradients = np.random.default_rng(0).normal(size=(12, 2, 3))
    ids = np.random.default_rng(1).integers(0, 9, (12, 2))

    def train(mode):
        table = keras.Variable(np.zeros((9, 3)), dtype="float64")
        optimizer = FTRL.make(sparse=mode, weight_decay=0.125)
        for rows, values in zip(ids, gradients, strict=True):
            shape = tf.constant([9, 3])
            optimizer.apply([tf.IndexedSlices(values, rows, shape)], [table])
        return table.numpy()

    np.testing.assert_allclose(train("lazy"), train("dense"), rtol=1e-12, atol=1e-15)


def test_plain_sgd_keeps_nothing_of_its_rows():
    optimizer = SGD()
    trajectory(optimizer, "eager", steps=2)
    assert (
        not optimizer._engine.rows.kept.by_name
        and not optimizer._engine.rows.kept.coefficients
    )
