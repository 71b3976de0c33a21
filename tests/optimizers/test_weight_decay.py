"""Variables excluded from weight decay before and after `build`; every backend."""

import keras
import numpy as np
import pytest

from keras_adaptive.optimizers import SGD, AdamW, Ftrl, Lookahead, Muon

WIDE = 130
"""A kernel of this height and width is no small variable."""


def model_of(shapes):
    return [
        keras.Variable(np.ones(shape), dtype="float32", name=name)
        for name, shape in shapes
    ]


def step(optimizer, variables):
    zeros = [keras.ops.zeros(v.shape) for v in variables]
    optimizer.apply(zeros, variables)
    numbers = [keras.ops.convert_to_numpy(v).mean() for v in variables]
    return np.round(1 - np.array(numbers), 6)


SMALL = [("kernel", (2, 2)), ("bias", (2,)), ("kernel", (2, 3)), ("bias", (3,))]
LARGE = [("kernel", (WIDE, WIDE)), *SMALL[1:]]


@pytest.mark.parametrize("shapes", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("wrap", [lambda o: o, Lookahead], ids=["", "lookahead"])
def test_variables_excluded_after_build_do_not_decay(shapes, wrap):
    for excluded, want in (
        ({"var_names": ["bias"]}, [0.05, 0, 0.05, 0]),
        ({"var_list": [0]}, [0, 0.05, 0.05, 0.05]),
        ({}, [0.05] * 4),
    ):
        variables = model_of(shapes)
        optimizer = wrap(AdamW(0.5, weight_decay=0.1))
        optimizer.build(variables)
        if "var_list" in excluded:
            excluded = {"var_list": [variables[i] for i in excluded["var_list"]]}
        optimizer.exclude_from_weight_decay(**excluded)
        np.testing.assert_allclose(step(optimizer, variables), want, atol=1e-6)


def test_only_some_of_a_mixed_group_have_a_gradient():
    variables = model_of(SMALL)
    optimizer = AdamW(0.5, weight_decay=0.1)
    optimizer.build(variables)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    zeros = [keras.ops.zeros(v.shape) for v in variables]
    for _ in range(2):
        optimizer.apply(zeros[1:3], variables[1:3])
    got = [keras.ops.convert_to_numpy(v).mean() for v in variables]
    np.testing.assert_allclose(got, [1, 1, 0.95**2, 1], rtol=1e-6)


def test_weight_decay_set_after_build():
    variables = model_of(SMALL)
    optimizer = SGD(0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(variables)
    for decay in (0.1, None):
        optimizer.weight_decay = decay
        np.testing.assert_allclose(
            step(optimizer, variables), [0.05, 0, 0.05, 0], atol=1e-6
        )


def test_an_exclusion_after_a_step_is_refused():
    variables = model_of(SMALL)
    optimizer = AdamW(0.5, weight_decay=0.1)
    step(optimizer, variables)
    with pytest.raises(ValueError, match="AdamW: .*before the first step.*load it"):
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    np.testing.assert_allclose(step(optimizer, variables), [0.0975] * 4, atol=1e-6)


@pytest.mark.parametrize("built", [False, True])
def test_weight_decay_that_rules_out_deferred_updates_is_refused(built):
    optimizer = Ftrl(0.5)
    assert optimizer.sparse == "deferred"
    if built:
        optimizer.build(model_of(SMALL))
    with pytest.raises(ValueError, match="Ftrl: sparse='deferred'.*weight_decay"):
        optimizer.weight_decay = 0.1
        optimizer.build(model_of(SMALL))


@pytest.mark.parametrize(
    "make",
    [
        lambda: AdamW(0.5, weight_decay=0.1),
        lambda: Muon(0.5, weight_decay=0.1),
        lambda: Lookahead(AdamW(0.5, weight_decay=0.1)),
    ],
    ids=["adamw", "muon", "lookahead"],
)
def test_excluded_names_are_saved(make, tmp_path):
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(2), keras.layers.Dense(1)]
    )
    optimizer = make()
    optimizer.exclude_from_weight_decay(var_names=["dense.*/bias", "nothing"])
    model.compile(optimizer, "mse")
    model.fit(np.ones((2, 2)), np.ones((2, 1)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    optimizer = getattr(loaded.optimizer, "optimizer", loaded.optimizer)
    pattern = "dense.*/bias|nothing"
    assert optimizer.get_config()["exclude_from_weight_decay"] == pattern
    decays = [
        optimizer._state_of(v).may_decay
        for layer in loaded.layers
        for v in (layer.kernel, layer.bias)
    ]
    assert decays == [True, False, True, False]


def test_a_config_without_exclusions_has_only_arguments():
    optimizer = AdamW(0.5)
    assert AdamW(**optimizer.get_config()).get_config() == optimizer.get_config()


# Rows of tables.


def table_and_batches():
    table = keras.Variable(np.ones((40, 2)), dtype="float64", name="table")
    rng = np.random.default_rng(0)
    return table, [(rng.integers(0, 40, 3), rng.normal(size=(3, 2))) for _ in range(12)]


def train(optimizer, table, batches):
    import tensorflow as tf

    for ids, values in batches:
        gradient = tf.IndexedSlices(values, ids, tf.constant([40, 2]))
        optimizer.apply([gradient], [table])


@pytest.mark.tensorflow
@pytest.mark.parametrize("cls", [SGD, AdamW])
@pytest.mark.parametrize("exclude", [False, True])
def test_deferred_rows_obey_what_was_set_after_build(cls, exclude, by_row):
    def final(sparse):
        table, batches = table_and_batches()
        optimizer = cls(0.1, weight_decay=0.5 if exclude else 0.0, sparse=sparse)
        if not exclude and cls is SGD:
            optimizer.weight_decay = None
        optimizer.build([table])
        if exclude:
            optimizer.exclude_from_weight_decay([table])
        else:
            optimizer.weight_decay = 0.25
        train(optimizer, table, batches)
        optimizer.flush()
        return table.numpy()

    np.testing.assert_allclose(final("deferred"), final("dense"), rtol=1e-6)


@pytest.mark.tensorflow
@pytest.mark.parametrize("flushed", [True, False])
@pytest.mark.parametrize("then", [True, False], ids=["excluded", "decaying"])
def test_loaded_rows_obey_a_new_exclusion(then, flushed, by_row, tmp_path):
    """Rows that are behind when they are loaded first make up for the old decay."""

    def make(exclude, table):
        optimizer = AdamW(0.1, weight_decay=0.5)
        optimizer.exclude_from_weight_decay([table] if exclude else None)
        optimizer.build([table])
        return optimizer

    table, batches = table_and_batches()
    optimizer = make(then, table)
    train(optimizer, table, batches[:6])
    if flushed:
        optimizer.flush()
    store, state = {}, table.numpy()
    optimizer.save_own_variables(store)

    table.assign(state)
    other = make(not then, table)
    if not flushed:
        with pytest.raises(ValueError, match="such rows are not kept"):
            other.load_own_variables(store)
        return
    other.load_own_variables(store)
    train(other, table, batches[6:])
    other.flush()
    got = table.numpy()

    dense = AdamW(0.1, weight_decay=0.5, sparse="dense")
    table.assign(state)
    dense.exclude_from_weight_decay(None if then else [table])
    dense.build([table])
    for old, new in zip(dense.variables, optimizer.variables, strict=True):
        old.assign(new)
    train(dense, table, batches[6:])
    np.testing.assert_allclose(got, table.numpy(), rtol=1e-6)


@pytest.mark.tensorflow
def test_an_exclusion_after_loading_leaves_the_steps_before_it_alone(by_row):
    def final(sparse):
        table, batches = table_and_batches()
        optimizer = AdamW(0.1, weight_decay=0.5, sparse=sparse)
        train(optimizer, table, batches[:6])
        store = {}
        optimizer.save_own_variables(store)
        other = AdamW(0.1, weight_decay=0.5, sparse=sparse)
        other.build([table])
        other.load_own_variables(store)
        other.exclude_from_weight_decay([table])
        train(other, table, batches[6:])
        other.flush()
        return table.numpy()

    np.testing.assert_allclose(final("deferred"), final("dense"), rtol=1e-6)


@pytest.mark.tensorflow
def test_rows_that_may_be_behind_keep_their_decay(by_row):
    table, batches = table_and_batches()
    optimizer = SGD(0.1, momentum=0.5, sparse="deferred")
    train(optimizer, table, batches[:2])
    with pytest.raises(ValueError, match="SGD: `weight_decay` cannot become 0.1 after"):
        optimizer.weight_decay = 0.1
    assert optimizer.weight_decay is None
