"""No operation of a sparse step has an output of the table's size."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from optimizer_cases import CASES, MODES, name_of

from keras_adaptive.optimizers import Adam, rows

HEIGHT, WIDTH, COUNT = 4999, 3, 8
OPTIONS = {
    "clipnorm": 0.5,
    "loss_scale_factor": 8.0,
    "weight_decay": 0.1,
    "use_ema": True,
    "gradient_accumulation_steps": 2,
}
SPARSE = tuple((case, mode) for case, mode in MODES if mode != "dense")


def concrete(optimizer, dtype="float32"):
    """The graph of a step from the loss on: forward, backward, update."""
    table = keras.Variable(np.zeros((HEIGHT, WIDTH)), dtype=dtype, name="table")

    def step(ids):
        with tf.GradientTape() as tape:
            tape.watch(table.value)
            loss = tf.reduce_sum(tf.square(tf.gather(table.value, ids) - 1))
        optimizer.apply([tape.gradient(loss, table.value)], [table])

    shape = tf.TensorSpec([COUNT], tf.int64)
    return tf.function(step, autograph=False).get_concrete_function(shape), table


def operations(graph):
    """The operations of a graph and of the functions that they call."""
    for operation in graph.get_operations():
        yield operation
        for value in operation.node_def.attr.values():
            for name in [value.func.name, *(f.name for f in value.list.func)]:
                if name:
                    yield from operations(graph._get_function(name).graph)


def large(function):
    """Operations with an output that has an axis about as long as the table."""
    found = set()
    for operation in operations(function.graph):
        for output in operation.outputs:
            # Of unknown rank are only resources and variants.
            assert output.shape.rank is not None or not output.dtype.is_floating
            shape = output.shape if output.shape.rank else ()
            if any(size and abs(size - HEIGHT) <= 1 for size in shape):
                found.add((operation.type, tuple(shape)))
    return found


@pytest.mark.parametrize(("case", "mode"), SPARSE, ids=name_of)
def test_no_operation_is_as_large_as_the_table(case, mode):
    function, _ = concrete(case.make(sparse=mode, **OPTIONS))
    assert large(function) == set()


@pytest.mark.parametrize("option", ["clipvalue", "global_clipnorm"])
def test_nor_with_other_clipping_and_in_16_bits(option):
    options = {**OPTIONS, "clipnorm": None, option: 0.5}
    function, _ = concrete(CASES[-1].make(**options), "bfloat16")
    assert large(function) == set()


def test_overwriting_by_the_average_goes_block_by_block(monkeypatch):
    monkeypatch.setattr(rows, "BLOCK", 64)
    options = {**OPTIONS, "ema_overwrite_frequency": 2}
    function, _ = concrete(CASES[-1].make(**options))
    assert large(function) == set()


@pytest.mark.parametrize(("case", "mode"), SPARSE, ids=name_of)
def test_flush_goes_block_by_block(case, mode, monkeypatch):
    monkeypatch.setattr(rows, "BLOCK", 64)
    optimizer = case.make(sparse=mode, weight_decay=0.1, use_ema=True)
    _, table = concrete(optimizer)

    def finalize():
        optimizer.finalize_variable_values([table])

    function = tf.function(finalize, autograph=False).get_concrete_function()
    assert large(function) == set()


def test_large_operations_would_be_found():
    # In the graph itself, and inside the functions of a conditional.
    plain, _ = concrete(keras.optimizers.Adam())
    assert ("ReadVariableOp", (HEIGHT, WIDTH)) in large(plain)
    nested, _ = concrete(CASES[-1].make(sparse="dense", gradient_accumulation_steps=2))
    outer = {operation.type for operation in nested.graph.get_operations()}
    assert "Sqrt" in {kind for kind, _ in large(nested)} - outer


def depends(operation, other):
    """Whether one operation runs only after another."""
    seen, waiting = set(), [operation]
    while waiting:
        operation = waiting.pop()
        if operation is other:
            return True
        if operation not in seen:
            seen.add(operation)
            waiting += [t.op for t in operation.inputs] + operation.control_inputs
    return False


@pytest.mark.parametrize("mode", ["deferred", "lazy"])
def test_the_table_is_read_when_its_gradient_is_there(mode):
    # The forward pass holds it until then, and a read would copy all of it.
    table = keras.Variable(np.zeros((HEIGHT, WIDTH)), dtype="float32")
    optimizer = Adam(sparse=mode)
    optimizer.build([table])

    @tf.function(autograph=False)
    def step(ids, values):
        values = tf.identity(values, name="gradient")
        gradient = tf.IndexedSlices(values, ids, tf.constant([HEIGHT, WIDTH]))
        optimizer.apply([gradient], [table])

    graph = step.get_concrete_function(
        tf.TensorSpec([COUNT], tf.int64), tf.TensorSpec([COUNT, WIDTH])
    ).graph
    (handle,) = (
        inside for outside, inside in graph.captures if outside is table.value.handle
    )
    gradient = graph.get_operation_by_name("gradient")
    reads = {True: [], False: []}
    for operation in graph.get_operations():
        if operation.type == "ResourceGather":
            of_table = operation.inputs[0] is handle
            reads[of_table].append(depends(operation, gradient))
    assert reads[True] and all(reads[True])
    assert reads[False] and not any(reads[False])
