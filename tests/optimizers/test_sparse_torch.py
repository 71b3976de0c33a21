"""Sparse gradients on PyTorch: the same numbers as one-hot ones, in O(touched rows)."""

import keras
import numpy as np
import pytest
import torch
from optimizer_cases import EVERY, Ramp, name_of
from sparse_problem import HEIGHT, WIDTH, batches, variables
from torch_calls import Calls

from keras_adaptive import layers, optimizers

pytestmark = pytest.mark.torch

OPTIONS = {
    "plain": {},
    "decay": {"weight_decay": 0.1},
    "average": {"use_ema": True, "ema_momentum": 0.9},
    "overwritten by average": {
        "use_ema": True,
        "ema_momentum": 0.9,
        "ema_overwrite_frequency": 4,
    },
    "accumulation": {"gradient_accumulation_steps": 3},
    "accumulation, decay, average": {
        "gradient_accumulation_steps": 2,
        "weight_decay": 0.1,
        "use_ema": True,
        "ema_momentum": 0.9,
    },
    "clipnorm": {"clipnorm": 0.5},
    "global clipnorm": {"global_clipnorm": 0.5},
    "clipvalue": {"clipvalue": 0.25},
}


def deferrable():
    return [case for case in EVERY if "deferred" in case.modes]


def sparse(ids, values, variable):
    return torch.sparse_coo_tensor(
        torch.tensor(ids)[None],
        torch.tensor(values, dtype=variable.value.dtype),
        tuple(variable.shape),
        check_invariants=True,
    )


def gradients(batch, model, by_row):
    ids, values, cube_ids, cube_values = batch
    table, cube, bias = model
    pairs = [sparse(ids, values, table), sparse(cube_ids, cube_values, cube)]
    if not by_row:
        pairs = [gradient.to_dense() for gradient in pairs]
    return [*pairs, torch.tensor(values.sum(0), dtype=bias.value.dtype)]


def numbers(model):
    return [v.value.detach().double().numpy().copy() for v in model]


def train(optimizer, model, given, by_row=True):
    for batch in given:
        optimizer.apply(gradients(batch, model, by_row), model)


def trained(optimizer, by_row=True, steps=13, dtype="float64"):
    model = variables(dtype)
    train(optimizer, model, batches(steps), by_row)
    optimizer.finalize_variable_values(model)
    return numbers(model)


def assert_close(got, want, tolerance=1e-9):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.fixture(autouse=True)
def by_row(monkeypatch):
    """Tables as small as these would otherwise be updated whole."""
    from keras_adaptive.optimizers.engine.sparse import row_updates

    monkeypatch.setattr(row_updates, "SMALL_TABLE", 0)
    monkeypatch.setattr(row_updates, "ROWS_PER_ID", 0)


@pytest.mark.parametrize("case", EVERY, ids=name_of)
def test_dense_mode_sums_equal_ids(case):
    got = trained(case.make(sparse="dense"))
    assert_close(got, trained(case.make(sparse="dense"), by_row=False), 1e-12)


@pytest.mark.parametrize("case", deferrable(), ids=name_of)
def test_deferred_ends_where_dense_does(case):
    got = trained(case.make(sparse="deferred"))
    # Each step has its own error of the closed form, as on TensorFlow.
    tolerance = 1e-9 if case.make().stands_still() else 1e-4
    # Keras's `maximum` computes in float32 on PyTorch, and not always the same.
    tolerance = {"nadam": 1e-3, "nadam-row": 1e-3, "cocob": 1e-6}.get(
        case.name, tolerance
    )
    want = trained(case.make(sparse="dense"), by_row=False)
    assert_close(got, want, tolerance)


EXACT = [("SGD", {"momentum": 0.9}), ("Lion", {}), ("Adagrad", {}), ("RMSprop", {})]


@pytest.mark.parametrize(("name", "arguments"), EXACT, ids=str)
@pytest.mark.parametrize("options", OPTIONS)
def test_deferred_under_the_options_of_keras(name, arguments, options):
    def make(mode):
        cls = getattr(optimizers, name)
        return cls(Ramp(), sparse=mode, **arguments, **OPTIONS[options])

    got = trained(make("deferred"))
    assert_close(got, trained(make("dense"), by_row=False), 1e-9)
    assert_close(trained(make("deferred"), by_row=False), got, 1e-9)


@pytest.mark.parametrize("options", OPTIONS)
def test_lazy_moves_the_rows_of_the_batch_as_alone(options):
    """A table of the touched rows alone, trained densely, is the reference."""
    ids = np.array([2, 5, 7])
    values = batches(6)
    lazy = optimizers.Adam(0.1, sparse="lazy", **OPTIONS[options])
    alone = optimizers.Adam(0.1, sparse="dense", **OPTIONS[options])
    start = variables()[0].value.detach().numpy()
    table, part = keras.Variable(start), keras.Variable(start[ids])
    for _, value, *_ in values:
        lazy.apply([sparse(ids, value[:3], table)], [table])
        alone.apply([torch.tensor(value[:3], dtype=part.value.dtype)], [part])
    lazy.finalize_variable_values([table])
    alone.finalize_variable_values([part])
    assert_close([numbers([table])[0][ids]], numbers([part]), 1e-6)
    rest = np.setdiff1d(np.arange(HEIGHT), ids)
    assert_close([numbers([table])[0][rest]], [start[rest]], 1e-15)


def test_lazy_adam_is_torch_s_sparse_adam():
    model = variables()[:1]
    reference = torch.nn.Parameter(model[0].value.detach().clone())
    theirs = torch.optim.SparseAdam([reference], lr=0.1, eps=1e-7)
    # Ours adds ε before, theirs after the correction of v: hardly another number.
    ours = optimizers.Adam(0.1, epsilon=1e-7, sparse="lazy")
    for ids, values, *_ in batches(8):
        gradient = sparse(ids, values, model[0])
        ours.apply([gradient], model)
        reference.grad = gradient
        theirs.step()
    assert_close(numbers(model), [reference.detach().numpy()], 1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("mode", ["deferred", "lazy", "dense"])
def test_in_fewer_bits(dtype, mode):
    got = trained(optimizers.Adagrad(0.1, sparse=mode), dtype=dtype)
    want = trained(optimizers.Adagrad(0.1, sparse="dense"), by_row=False, dtype=dtype)
    assert_close(got, want, {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-5}[dtype])


@pytest.mark.parametrize("mode", ["deferred", "lazy"])
@pytest.mark.parametrize("options", OPTIONS)
def test_state_resumes_bit_by_bit(mode, options):
    def make():
        return optimizers.AdamW(0.1, sparse=mode, **OPTIONS[options])

    given = batches(14)
    first, model = make(), variables()
    train(first, model, given[:7])
    state, weights = first.get_state(), numbers(model)
    train(first, model, given[7:])
    first.finalize_variable_values(model)
    second, again = make(), variables()
    for variable, value in zip(again, weights, strict=True):
        variable.assign(value)
    second.build(again)
    second.set_state(state)
    train(second, again, given[7:])
    second.finalize_variable_values(again)
    for got, want in zip(numbers(again), numbers(model), strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_restarted_schedule_leaves_clocks_alone():
    table = keras.Variable(np.ones((40_000, 1)), dtype="float64")
    optimizer = optimizers.Adam(0.1)

    def step(row):
        optimizer.apply([sparse([row], [[1.0]], table)], [table])

    step(0)
    for _ in range(49):
        step(1)
    optimizer.flush()
    optimizer.iterations.assign(0)
    step(1)
    assert abs(numbers([table])[0][1, 0] + 4.013) < 0.05


@pytest.mark.parametrize("mode", ["deferred", "lazy", "dense"])
def test_a_batch_without_ids_trains(mode):
    optimizer, model = optimizers.SGD(0.1, sparse=mode), variables()
    before = numbers(model)
    none = sparse(np.zeros(0, int), np.zeros((0, WIDTH)), model[0])
    bias = torch.ones(WIDTH, dtype=torch.float64)
    optimizer.apply([none, None, bias], model)
    np.testing.assert_array_equal(numbers(model)[0], before[0])
    np.testing.assert_allclose(numbers(model)[2], before[2] - 0.1)


def test_gradients_that_are_sparse_otherwise_become_dense():
    model = variables()[:1]
    entries = torch.sparse_coo_tensor([[1, 1], [0, 2]], [1.0, 2.0], (HEIGHT, WIDTH))
    optimizers.SGD(0.1).apply([entries.double()], model)
    want = numbers(variables()[:1])[0]
    want[1, [0, 2]] -= [0.1, 0.2]
    assert_close(numbers(model), [want], 1e-7)


@pytest.mark.parametrize("mode", ["deferred", "lazy", "dense"])
def test_ids_outside_of_the_table_are_refused(mode):
    model = variables()[:1]
    before = numbers(model)
    values = torch.ones(2, WIDTH).double()
    gradient = torch.sparse_coo_tensor(
        torch.tensor([[1, HEIGHT]]), values, (HEIGHT, WIDTH), check_invariants=False
    )
    with pytest.raises(ValueError, match=rf"outside \[0, {HEIGHT}\).*\[{HEIGHT}\]"):
        optimizers.SGD(0.1, sparse=mode).apply([gradient], model)
    np.testing.assert_array_equal(numbers(model), before)


def test_a_gradient_of_another_shape_is_refused():
    model = variables()[:1]
    gradient = torch.zeros(HEIGHT + 1, WIDTH).to_sparse(1)
    with pytest.raises(ValueError, match="must have the variable's shape"):
        optimizers.SGD(0.1).apply([gradient], model)


@pytest.mark.parametrize("mode", ["deferred", "lazy"])
@pytest.mark.parametrize("options", ["plain", "decay", "average", "accumulation"])
def test_nothing_as_large_as_a_table_is_made(mode, options):
    height = 200_000
    table = keras.Variable(np.zeros((height, 4), "float32"))
    optimizer = optimizers.Adam(sparse=mode, **OPTIONS[options])
    rng = np.random.default_rng(0)

    def step():
        ids = rng.integers(0, height, 50)
        optimizer.apply([sparse(ids, rng.normal(size=(50, 4)), table)], [table])

    for _ in range(3):
        step()
    with Calls() as calls:
        for _ in range(40):
            step()
    # Of its coefficients a deferred table keeps 2^14, and a turn takes 396 rows.
    assert max(calls.made) <= (2**14 if mode == "deferred" else 4 * 160)


def test_a_bag_of_words_makes_nothing_as_large_as_its_kernel():
    height, layer = 200_000, layers.SparseDense(4)
    layer.build((None, height))
    optimizer, variables = optimizers.Adam(sparse="lazy"), layer.trainable_variables
    optimizer.build(variables)
    rng = np.random.default_rng(0)

    def step():
        places = np.stack([np.arange(50) // 7, rng.integers(0, height, 50)])
        x = torch.sparse_coo_tensor(places, rng.random(50, "float32"), (8, height))
        (layer(x) ** 2).sum().backward()
        optimizer.apply([v.value.grad for v in variables], variables)
        layer.zero_grad()

    step()
    with Calls() as calls:
        step()
    assert max(calls.made) <= 50 * 4
