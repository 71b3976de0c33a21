"""What the benchmarks time is what they say: the steps move as Keras's do."""

import os

import keras
import numpy as np
import pytest

BACKEND = keras.backend.backend()
# Importing the benchmarks sets the backend of processes that this one starts.
os.environ["KERAS_ADAPTIVE_BENCHMARK_BACKEND"] = BACKEND
from benchmarks import dense_contenders, sparse_contenders  # noqa: E402
from benchmarks.on_tables import Table  # noqa: E402

del os.environ["KERAS_ADAPTIVE_BENCHMARK_BACKEND"]

STEPS = 3
FEW_IDS = 8
TABLE = Table(5000, 8)


def moved(steps, variables, count=STEPS):
    """The variables after some steps; JAX's steps return them."""
    returned = [next(steps) for _ in range(count)][-1]
    if BACKEND == "jax":
        variables = returned if isinstance(returned, list) else [returned]
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def dense(family, label):
    problem = dense_contenders.Problem(dense_contenders.Case(2, 8))
    steps = dense_contenders.contenders(family)[label](problem)
    return moved(steps, problem.variables), problem.start


@pytest.mark.parametrize("family", dense_contenders.FAMILIES)
def test_dense_steps_move_as_keras_s(family):
    want, start = dense(family, f"Keras {family}")
    got, _ = dense(family, family)
    for one, other, former in zip(got, want, start, strict=True):
        assert np.abs(one - former).max() > 1e-4
        # After three steps, float32 rounds differences to a few 1e-6 of a step.
        np.testing.assert_allclose(one, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("family", dense_contenders.AS_MANY_BYTES)
def test_as_many_bytes_are_as_many_slots(family):
    floor = dense_contenders.AS_MANY_BYTES[family]
    ours = getattr(dense_contenders.keras_adaptive.optimizers, family)()
    assert len(floor.slots) == len(ours.slots)


def test_peers_make_steps():
    found = dense_contenders.contenders("Adam")
    peers = [label for label in found if label.split()[0] in ("torch", "optax")]
    assert peers
    for label in peers:
        problem = dense_contenders.Problem(dense_contenders.Case(2, 8))
        steps = found[label](problem)
        next(steps), next(steps)


def test_sparse_steps_move_as_keras_s():
    """In the first step all rows but those touched stand still, in each mode."""
    found = sparse_contenders.contenders(BACKEND, "Adam")
    problems = {
        label: sparse_contenders.Problem(TABLE, FEW_IDS)
        for label in found
        if label not in ("bare operations", "torch")
    }
    tables = {
        label: moved(found[label](problem), [problem.variable], count=1)[0]
        for label, problem in problems.items()
    }
    want = tables.pop("Keras")
    touched = np.unique(problems["Keras"].ids[0])
    assert (np.abs(want[touched]) > 1e-4).all()
    assert np.count_nonzero(want.any(axis=1)) == len(touched)
    for label, table in tables.items():
        # Row-wise: all entries of a row share a second moment.
        tolerance = 1e-2 if "row-wise" in label else 1e-6
        np.testing.assert_allclose(table, want, atol=tolerance, err_msg=label)


def test_gradients_by_row_are_those_of_the_whole_table():
    problem = sparse_contenders.Problem(TABLE, FEW_IDS)
    whole = keras.ops.convert_to_numpy(problem.dense_gradient)
    want = np.zeros(TABLE)
    np.add.at(want, problem.ids[0], problem.values)
    np.testing.assert_allclose(whole, want, rtol=1e-6)
    if BACKEND == "torch":
        by_row = next(sparse_contenders.by_row_on_torch(problem))
        np.testing.assert_allclose(by_row.to_dense().numpy(), want, rtol=1e-6)


def test_sparse_peers_make_steps():
    label, steps = sparse_contenders.PEERS[BACKEND]
    made = steps(sparse_contenders.Problem(TABLE, FEW_IDS))
    next(made), next(made)
    assert label in sparse_contenders.contenders(BACKEND, "Adam")
