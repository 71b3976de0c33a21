"""Updates in stages: the right order, and no copies."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_adaptive import optimizers
from keras_adaptive.optimizers.engine.tensorflow import fused
from keras_adaptive.optimizers.engine.tensorflow.write_order import (
    dependencies,
    write_order,
)

pytestmark = pytest.mark.tensorflow

NAMES = "abcd"
SHAPE = (512, 512)


def copied(stage, reads):
    return {old for new in stage for old in reads[new] - {new}} & set(stage)


@st.composite
def updates(draw):
    """`reads` and `needs` of a made-up update; who is read is needed."""
    some = st.sets(st.sampled_from(NAMES))
    reads = {name: draw(some) for name in NAMES}
    return reads, {name: reads[name] | draw(some) for name in NAMES}


@given(update=updates(), large=st.sets(st.sampled_from(NAMES)))
def test_nothing_is_overwritten_before_it_is_read(update, large):
    reads, needs = update
    found = write_order(NAMES, reads, needs, large)
    assert sorted(name for stage in found for name in stage) == list(NAMES)
    for k, stage in enumerate(found):
        before = {name for earlier in found[:k] for name in earlier}
        assert not any(needs[name] & before for name in stage)


@given(update=updates())
def test_a_stage_more_is_a_copy_less(update):
    reads, needs = update
    found = write_order(NAMES, reads, needs, set(NAMES))
    copies = sum(len(copied(stage, reads)) for stage in found)
    assert copies + len(found) - 1 <= len(copied(NAMES, reads))


def test_copies_of_small_arrays_do_not_count():
    reads = {"a": {"a", "b"}, "b": {"b"}}
    assert write_order("ab", reads, reads, {"a", "b"}) == [["a"], ["b"]]
    assert write_order("ab", reads, reads, {"a"}) == [["a", "b"]]


def test_what_is_read_by_way_of_a_new_value_is_only_needed():
    with tf.Graph().as_default():
        a, b, c = (tf.compat.v1.placeholder(tf.float32) for _ in range(3))
        new = a + 1
        reads, needs = dependencies(
            {"a": a, "b": b, "c": c}, {"a": new, "b": new * b, "c": c}
        )
    assert reads == {"a": {"a"}, "b": {"b"}, "c": {"c"}}
    assert needs == {"a": {"a"}, "b": {"a", "b"}, "c": {"c"}}


def programs(optimizer):
    """What XLA made of an update of one large variable."""
    variable = keras.Variable(np.ones(SHAPE), dtype="float32")
    optimizer.build([variable])
    tf.function(lambda: optimizer.apply([tf.ones(SHAPE)], [variable]))()
    slots = optimizer._engine.states[0].slots
    arrays = {"parameter": variable.value, **{n: s.value for n, s in slots.items()}}
    context = optimizer._context()
    tensors = {name: fused._tensors(getattr(context, name)) for name in fused.TENSORS}
    return [
        function.experimental_get_compiler_ir([arrays], [tf.ones(SHAPE)], tensors)(
            stage="optimized_hlo"
        )
        for function in optimizer._engine.fused._compiled.values()
    ]


def copies(program):
    return len(re.findall(r"= f32\[512,512\]\S* copy\(", program))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "calls"),
    [("Adam", 1), ("Lion", 2), ("ADOPT", 2), ("COCOB", 3), ("ScheduleFreeSGD", 2)],
)
def test_large_arrays_are_not_copied(name, calls, monkeypatch):
    compiled = programs(getattr(optimizers, name)())
    assert len(compiled) == calls
    assert not any(map(copies, compiled))
    monkeypatch.setattr(fused, "write_order", lambda names, *_: [names])
    (together,) = programs(getattr(optimizers, name)())
    assert (copies(together) > 0) == (calls > 1)


def test_a_change_of_a_number_may_change_the_stages():
    optimizer = optimizers.ScheduleFreeSGD(0.1, sparse="lazy")
    assert len(programs(optimizer)) == 2
    variable = optimizer._trainable_variables[0]
    optimizer.weight_decay = 0.1
    before = variable.numpy()
    tf.function(lambda: optimizer.apply([tf.zeros(SHAPE)], [variable]))()
    found = list(optimizer._engine.fused._write_orders.values())
    assert found == [[["parameter"], ["z"]], [["parameter", "z"]]]
    assert np.all(variable.numpy() < before)
