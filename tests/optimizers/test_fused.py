"""Dense updates that are compiled: the same numbers, in few operations."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fused_cases import NormClipped, PerAxis, SmallRowsNormed, variables
from optimizer_cases import EVERY, name_of

from keras_adaptive import optimizers
from keras_adaptive.optimizers import AdaptiveOptimizer, Slot
from keras_adaptive.optimizers.engine.tensorflow import fused

pytestmark = pytest.mark.tensorflow

WAYS = {"one group": (10**6, 2**15), "groups": (10**6, 44), "compiled": (0, 2**15)}


def gradients(model, step, without=()):
    rng = np.random.default_rng(step)
    grads = [
        tf.constant(rng.normal(size=v.shape), keras.backend.standardize_dtype(v.dtype))
        for v in model
    ]
    return [None if v.name in without else g for g, v in zip(grads, model, strict=True)]


def train(optimizer, model, steps=6, without=(), first=0):
    """Trains and returns the variables after every step."""
    compiled = tf.function(lambda *g: optimizer.apply(g, model), autograph=False)
    given = [v for v in model if v.name not in without]
    if without:
        compiled = tf.function(lambda *g: optimizer.apply(g, given), autograph=False)
    seen = []
    for step in range(first, first + steps):
        compiled(*[g for g in gradients(model, step, without) if g is not None])
        seen.append([v.numpy() for v in model])
    return seen


@pytest.fixture
def plain(monkeypatch):
    """A function that switches the fused way off."""
    return lambda: monkeypatch.setenv("KERAS_ADAPTIVE_FUSED", "0")


@pytest.mark.slow
@pytest.mark.parametrize("case", EVERY, ids=name_of)
def test_the_same_numbers_as_the_plain_way(case, monkeypatch, plain):
    ways = []
    for small, group in WAYS.values():
        monkeypatch.setattr(fused, "SMALL", small)
        monkeypatch.setattr(fused, "GROUP", group)
        ways.append(train(case.make(), variables()))
    plain()
    want = train(case.make(), variables())
    for got in ways:
        for a, b in zip(got, want, strict=True):
            for x, y in zip(a, b, strict=True):
                np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_in_fewer_bits(dtype, plain):
    got = train(optimizers.AdamW(0.01), variables(dtype))
    plain()
    want = train(optimizers.AdamW(0.01), variables(dtype))
    one_rounding = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-5}[dtype]
    for a, b in zip(got[-1], want[-1], strict=True):
        np.testing.assert_allclose(
            a.astype("float64"), b.astype("float64"), rtol=one_rounding, atol=1e-6
        )


def operations(optimizer, shapes):
    model = variables("float32", shapes)
    step = tf.function(lambda *g: optimizer.apply(g, model), autograph=False)
    graph = step.get_concrete_function(*gradients(model, 0)).graph
    return graph.get_operations()


def count(found, *kinds):
    return len([op for op in found if op.type in kinds])


def test_small_variables_share_the_operations_of_a_rule():
    shapes = {f"layer{n}": (n + 1, 3) for n in range(20)}
    found = operations(optimizers.Adam(), shapes)
    assert count(found, "Square") == 1
    assert count(found, "StatefulPartitionedCall", "PartitionedCall") == 0


SMALL_MODEL = {
    name: shape
    for i, shape in enumerate([(64, 64), (64, 64), (64, 10)])
    for name, shape in {f"kernel{i}": shape, f"bias{i}": shape[1:]}.items()
}
ELEMENTWISE = ["Adam", "AdamW", "SGD", "RMSprop", "Adagrad", "Adamax", "Nadam", "Lion"]


@pytest.mark.parametrize("family", ELEMENTWISE)
def test_a_small_model_needs_fewer_operations_than_with_keras(family):
    options = {"momentum": 0.9} if family == "SGD" else {}

    def of(library):
        optimizer = getattr(library, family)(**options)
        return [
            op
            for op in operations(optimizer, SMALL_MODEL)
            if op.type not in ("Const", "Placeholder", "Identity")
        ]

    assert len(of(optimizers)) < len(of(keras.optimizers))


@pytest.mark.parametrize("family", ELEMENTWISE)
def test_a_small_model_compiles_nothing(family, monkeypatch):
    monkeypatch.setattr(fused.FusedUpdates, "_compile", None)
    monkeypatch.setattr(fused, "_xla_works", None)
    model = variables("float32", SMALL_MODEL)
    got = train(getattr(optimizers, family)(), model, steps=1)
    assert len(got) == 1


def test_groups_hold_a_limited_number_of_entries():
    shapes = {f"layer{n}": (100, 100) for n in range(7)}
    optimizer = optimizers.Adam()
    optimizer.build(variables("float32", shapes))
    groups = optimizer._engine.fused.groups
    assert [group.indices for group in groups] == [[0, 1, 2], [3, 4, 5]]
    assert max(sum(group.sizes) for group in groups) <= fused.GROUP
    names = [variable.name for variable in optimizer.variables]
    assert len(set(names)) == len(names)


def test_several_groups_give_the_same_numbers(monkeypatch, plain):
    monkeypatch.setattr(fused, "GROUP", 44)
    optimizer = optimizers.Adam(0.1)
    got = train(optimizer, variables())
    assert len(optimizer._engine.fused.groups) == 2
    plain()
    for a, b in zip(got, train(optimizers.Adam(0.1), variables()), strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-12)


def test_large_variables_of_a_shape_share_calls_and_compilations():
    alike = {f"layer{n}": (130, 130) for n in range(2 * fused.MAX_VARIABLES_PER_CALL)}
    found = operations(optimizers.Adam(), {**alike, "other": (260, 65)})
    calls = [op for op in found if op.type == "StatefulPartitionedCall"]
    assert len(calls) == 2 + 1
    assert len({op.get_attr("f").name for op in calls}) == 2
    assert not [op for op in found if op.type in ("Sqrt", "Square")]


def test_calls_have_about_as_many_variables():
    # They run side by side, and a short one leaves a core without work in the end.
    count = 2 * fused.MAX_VARIABLES_PER_CALL + 1
    found = operations(
        optimizers.Adam(), {f"layer{n}": (130, 130) for n in range(count)}
    )
    calls = [op for op in found if op.type == "StatefulPartitionedCall"]
    each = len(calls[0].inputs) / (count // 3)
    variables_of = [round(len(op.inputs) / each) for op in calls]
    assert sum(variables_of) == count
    assert max(variables_of) - min(variables_of) <= 1


def test_without_it_the_operations_are_the_rule_s(plain):
    plain()
    found = operations(optimizers.Adam(), {"a": (130, 130), "b": (3,)})
    assert not [op for op in found if op.type == "StatefulPartitionedCall"]
    assert [op for op in found if op.type == "Sqrt"]


def test_op_determinism_compiles_nothing(monkeypatch):
    monkeypatch.setattr(fused, "is_op_determinism_enabled", lambda: True)
    found = operations(optimizers.Adam(), {"a": (130, 130), "b": (3,)})
    assert not [op for op in found if op.type == "StatefulPartitionedCall"]


def test_a_variable_without_a_gradient_stands_still(plain):
    optimizer, model = optimizers.Adam(0.1), variables()
    got = train(optimizer, model, steps=2)
    state = [s.numpy() for s in optimizer._engine.states[1].slots.values()]
    got += train(optimizer, model, steps=2, without=["bias"], first=2)
    np.testing.assert_array_equal(got[3][1], got[1][1])
    for before, slot in zip(
        state, optimizer._engine.states[1].slots.values(), strict=True
    ):
        np.testing.assert_array_equal(before, slot.numpy())
    plain()
    optimizer, model = optimizers.Adam(0.1), variables()
    want = train(optimizer, model, steps=2)
    want += train(optimizer, model, steps=2, without=["bias"], first=2)
    for a, b in zip(got[3], want[3], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("cls", [NormClipped, PerAxis, SmallRowsNormed])
def test_a_rule_that_looks_at_whole_variables_is_not_grouped(cls, plain):
    optimizer = cls()
    got = train(optimizer, variables())
    assert not optimizer._engine.fused.groups
    plain()
    want = train(cls(), variables())
    np.testing.assert_allclose(got[-1][0], want[-1][0], rtol=1e-12)


def test_a_rule_that_treats_entries_alone_is_grouped():
    optimizer = optimizers.Adam()
    optimizer.build(variables())
    (group,) = optimizer._engine.fused.groups
    assert group.indices == [0, 1, 2, 3, 4]


def test_those_that_decay_and_those_that_do_not_are_apart():
    optimizer = optimizers.AdamW()
    optimizer.exclude_from_weight_decay(var_names=["bias", "cube"])
    optimizer.build(variables())
    assert [group.indices for group in optimizer._engine.fused.groups] == [
        [0, 3, 4],
        [1, 2],
    ]


def test_a_slot_that_starts_at_the_weights():
    class Anchored(AdaptiveOptimizer):
        slots = {"start": Slot("parameter")}

        def __init__(self):
            super().__init__(0.5)

        def rule(self, gradient, state, hyper):
            return hyper.learning_rate * (hyper.parameter - state["start"]), state

    optimizer, model = Anchored(), variables()
    optimizer.build(model)
    assert optimizer._engine.fused.groups
    for i, variable in enumerate(model):
        start = optimizer._engine.states[i].slots["start"].numpy()
        np.testing.assert_array_equal(start, variable.numpy())


def test_a_number_that_is_set_in_between_counts():
    optimizer, model = optimizers.SGD(0.1, momentum=0.9), variables()
    optimizer.apply(gradients(model, 0), model)
    optimizer.momentum = 0.0
    before = [v.numpy() for v in model]
    optimizer.apply(gradients(model, 1), model)
    for old, gradient, v in zip(before, gradients(model, 1), model, strict=True):
        rate = np.float64(np.float32(0.1))
        np.testing.assert_allclose(v.numpy(), old - rate * gradient, rtol=1e-12)


@pytest.mark.parametrize("writer", ["fused", "plain"])
def test_state_moves_between_the_two_ways(writer, plain, monkeypatch):
    def switched(way):
        monkeypatch.setenv("KERAS_ADAPTIVE_FUSED", "1" if way == "fused" else "0")

    switched(writer)
    first, model = optimizers.Adam(0.1), variables()
    train(first, model, steps=2)
    store = {}
    first.save_own_variables(store)
    after = [v.numpy() for v in model]
    want = train(first, model, steps=2, first=2)[-1]
    switched("plain" if writer == "fused" else "fused")
    second, model = optimizers.Adam(0.1), variables()
    for v, value in zip(model, after, strict=True):
        v.assign(value)
    second.build(model)
    assert bool(second._engine.fused.groups) == (writer == "plain")
    second.load_own_variables(store)
    got = train(second, model, steps=2, first=2)[-1]
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_variables_are_listed_as_without_groups(plain):
    def shapes(optimizer):
        optimizer.build(variables())
        return [tuple(variable.shape) for variable in optimizer.variables]

    options = {"use_ema": True, "gradient_accumulation_steps": 2}
    got = shapes(optimizers.ScheduleFreeAdamW(gradient_accumulation_steps=2))
    averaged = shapes(optimizers.Adam(**options))
    plain()
    assert got == shapes(optimizers.ScheduleFreeAdamW(gradient_accumulation_steps=2))
    assert averaged == shapes(optimizers.Adam(**options))


def test_state_by_position_moves_too(plain):
    """Keras's `LossScaleOptimizer` saves the variables of the optimizer in it so."""

    def trained(model, steps=0):
        scaled = keras.optimizers.LossScaleOptimizer(optimizers.Adam(0.1), 1.0)
        scaled.build(model)
        for step in range(steps):
            scaled.apply(gradients(model, step), model)
        return scaled

    store = {}
    trained(variables(), steps=3).save_own_variables(store)
    plain()
    again = trained(variables())
    again.load_own_variables(store)
    assert not again.inner_optimizer._engine.fused.groups
    for number, variable in enumerate(again.variables):
        np.testing.assert_array_equal(variable.numpy(), store[str(number)])
    want = trained(variables(), steps=3)
    for got, expected in zip(again.variables, want.variables, strict=True):
        np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-9)


def test_an_update_step_of_one_s_own_is_used():
    class Counting(optimizers.Adam):
        calls = 0

        def update_step(self, gradient, variable, learning_rate):
            self.calls += 1
            super().update_step(gradient, variable, learning_rate)

    optimizer, model = Counting(), variables()
    optimizer.apply(gradients(model, 0), model)
    assert optimizer.calls == len(model)
