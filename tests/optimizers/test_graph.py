"""No operation of a sparse step has an output of the table's size."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from optimizer_cases import CASES, MODES, name_of

from keras_adaptive.optimizers import Adam
from keras_adaptive.optimizers.engine.sparse import row_updates as sparse
from keras_adaptive.optimizers.engine.tensorflow import rows

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

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
        yield from inside(operation)


def inside(operation):
    """The operations of the functions that an operation calls."""
    for value in operation.node_def.attr.values():
        for name in [value.func.name, *(f.name for f in value.list.func)]:
            if name:
                yield from operations(operation.graph._get_function(name).graph)


def large(function):
    """Operations with an output that has an axis about as long as the table.

    The checksum of a table is left out: it is taken in a conditional, once after
    somebody has looked at the evaluation point, and that looks at all rows.
    """
    found = set()
    for operation in operations(function.graph):
        if "checksum/" in operation.name:
            continue
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


def step_graph(mode, height=HEIGHT, count=COUNT):
    """The graph of an update of a table by a gradient from outside."""
    table = keras.Variable(np.zeros((height, WIDTH)), dtype="float32")
    optimizer = Adam(sparse=mode)
    optimizer.build([table])

    @tf.function(autograph=False)
    def step(ids, values):
        values = tf.identity(values, name="gradient")
        gradient = tf.IndexedSlices(values, ids, tf.constant([height, WIDTH]))
        optimizer.apply([gradient], [table])

    graph = step.get_concrete_function(
        tf.TensorSpec([count], tf.int64), tf.TensorSpec([count, WIDTH])
    ).graph
    (handle,) = (
        inner for outer, inner in graph.captures if outer is table.value.handle
    )
    return graph, handle


def of_type(graph, *kinds):
    return [o for o in graph.get_operations() if o.type in kinds]


@pytest.mark.parametrize("mode", ["deferred", "lazy"])
def test_the_table_is_read_when_its_gradient_is_there(mode):
    # The forward pass holds it until then, and a read would copy all of it.
    graph, handle = step_graph(mode)
    gradient = graph.get_operation_by_name("gradient")
    (total,) = of_type(graph, "ScatterNd")
    assert depends(total, gradient)
    reads = {True: [], False: []}
    for operation in of_type(graph, "ResourceGatherNd"):
        reads[operation.inputs[0] is handle].append(operation)
    assert all(depends(o, gradient) for o in reads[True]) and reads[True]
    assert not any(depends(o, gradient) for o in reads[False]) and reads[False]
    # Rows of the gradient that belong together are added meanwhile.
    assert not any(depends(o, total) for o in reads[True])


@pytest.mark.parametrize("mode", ["deferred", "lazy"])
def test_rows_are_not_read_by_threads_that_have_to_be_woken(mode):
    graph, _ = step_graph(mode)
    assert of_type(graph, "ResourceGatherNd")
    assert not of_type(graph, "ResourceGather", "GatherV2")


@pytest.mark.parametrize("mode", ["deferred", "lazy"])
def test_distinct_rows_are_found_while_ids_are_checked(mode):
    graph, _ = step_graph(mode)
    (unique,) = of_type(graph, "Unique")
    checks = [
        o
        for o in of_type(graph, "If")
        if any("Assert" in inner.type for inner in inside(o))
    ]
    assert len(checks) == 1 and not depends(unique, checks[0])
    assert all(depends(o, checks[0]) for o in of_type(graph, "ResourceGatherNd"))


@pytest.mark.parametrize(("height", "ways"), [(17, 0), (15, 1), (None, 1)])
def test_both_ways_are_in_the_graph_only_if_either_may_be_needed(
    height, ways, monkeypatch
):
    # Eight ids touch at most eight rows; of 17 that is never half.
    monkeypatch.setattr(sparse, "SMALL_TABLE", 0)
    monkeypatch.setattr(sparse, "ROWS_PER_ID", 2)
    count = COUNT if height else None
    graph, _ = step_graph("deferred", height or 17, count)
    found = [
        o
        for o in of_type(graph, "If")
        if any(inner.type == "ScatterNd" for inner in inside(o))
    ]
    assert len(found) == ways
