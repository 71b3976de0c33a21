"""Sparse gradients on TensorFlow: coalesce, gather, scatter, in O(rows).

A row is an index of the first axis of a variable. Nothing here reads or writes a whole
table.

Under XLA, where shapes are static, unused places hold the id `height`, one past the
last row: XLA's gather clamps it and its scatter drops it. Outside XLA there are no
unused places.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from keras_adaptive.optimizers.engine.backend import raw
from keras_adaptive.optimizers.engine.row_gradient import Rows
from keras_adaptive.optimizers.engine.tensorflow.csr_products import segment_sum

BLOCK = 16_384


def in_xla() -> bool:
    """Returns whether XLA will compile the code that is being traced."""
    graph = tf.compat.v1.get_default_graph()
    return control_flow_util.GraphOrParentsInXlaContext(graph)


def parts(gradient: tf.IndexedSlices, variable: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the ids and the values of a sparse gradient of a variable."""
    shape = [None, *variable.shape[1:]]
    return gradient.indices, tf.ensure_shape(gradient.values, shape)


def after(gradient: tf.Tensor, value: Any) -> tf.Tensor:
    """Returns a value, but not before the forward pass has let go of the table.

    Ids and clocks are known before. Rows of a table that are read while it is held
    make TensorFlow copy all of it; those of its state may be read at any time.

    Args:
        gradient: The values of the table's gradient.
        value: Tensor.
    """
    with tf.control_dependencies([gradient]):
        return tf.identity(value)


def replaced(vector: tf.Tensor, place: tf.Tensor, entry: float) -> tf.Tensor:
    """Returns a vector with another entry at one place."""
    entries = tf.constant([entry], vector.dtype)
    return tf.tensor_scatter_nd_update(vector, [[place]], entries)


def checked_ids(
    ids: tf.Tensor, height: int, name: str, then: tf.Tensor | None = None
) -> tf.Tensor:
    """Returns the ids as int64, after a check that all are in the table.

    There may be none: other features of the batch may still carry the loss.

    Under XLA nothing is checked: XLA has no assertions.

    Args:
        ids: Integer tensor of shape `(n,)`.
        height: Number of rows of the table.
        name: Name of the table.
        then: A tensor to return in place of the ids, made while they are checked.
    """
    ids = tf.cast(ids, tf.int64)
    then = ids if then is None else then
    if in_xla():
        return then
    outside = (
        f"The sparse gradient of '{name}' has row ids outside [0, {height}). "
        "Check the ids of the batch, or give the table more rows. Outside are:"
    )
    inside = (ids >= 0) & (ids < height)

    def complain() -> tf.Tensor:
        found = [outside, tf.boolean_mask(ids, ~inside)]
        within = tf.debugging.Assert(tf.reduce_all(inside), found)
        with tf.control_dependencies([within]):
            return tf.identity(then)

    return tf.cond(tf.reduce_all(inside), lambda: then, complain)


def coalesce(ids: tf.Tensor, values: tf.Tensor, height: int, name: str) -> Rows:
    """Returns a gradient by row: the values of equal ids are summed.

    Args:
        ids: Integer tensor of shape `(n,)`, in any order. They are checked.
        values: Float tensor of shape `(n, ...)`.
        height: Number of rows of the table.
        name: Name of the table.
    """
    if ids.shape[0] == 0:
        return Rows(tf.cast(ids, tf.int64), values)
    if in_xla():
        ids = checked_ids(ids, height, name)
        count = ids.shape[0]
        order = tf.argsort(ids)
        ids, values = tf.gather(ids, order), tf.gather(values, order)
        fresh = tf.concat([[False], ids[1:] != ids[:-1]], axis=0)
        place = tf.cumsum(tf.cast(fresh, tf.int32))
        unique = tf.math.unsorted_segment_min(ids, place, count)
        unique = tf.minimum(unique, tf.constant(height, unique.dtype))
        return Rows(unique, tf.math.unsorted_segment_sum(values, place, count))
    if are_distinct(ids):
        return Rows(checked_ids(ids, height, name), values)
    ids = tf.cast(ids, tf.int64)
    unique, place = tf.unique(ids, tf.int64)
    total = segment_sum(values, place, tf.size(unique, tf.int64))
    return Rows(checked_ids(ids, height, name, then=unique), total, values)


def are_distinct(ids: tf.Tensor) -> bool:
    """Returns whether the graph shows that ids are distinct: `tf.unique` made them."""
    while tf.is_symbolic_tensor(ids):
        if ids.op.type in ("Unique", "UniqueWithCounts"):
            return ids.value_index == 0
        if ids.op.type not in ("Reshape", "Identity"):
            return False
        ids = ids.op.inputs[0]
    return False


def dense(rows: Rows, shape: tuple[int, ...]) -> tf.Tensor:
    """Returns the gradient with all its zeros, of the table's shape."""
    return tf.scatter_nd(rows.ids[:, None], rows.values, shape)


def gather(variable: Any, ids: tf.Tensor) -> tf.Tensor:
    """Reads rows of a Keras or TensorFlow variable; anything for unused places.

    On a CPU `tf.gather` shares even a few kilobytes with other threads. Waking one
    takes longer than reading a thousand rows, so `tf.gather_nd` reads them there; GPUs
    lack its kernel for these ids.
    """
    table = raw(variable)
    if in_xla() or "CPU" not in getattr(table, "device", ""):
        return tf.gather(table, ids)
    return tf.gather_nd(table, ids[:, None])


def zero_unused(values: tf.Tensor, ids: tf.Tensor, height: int) -> tf.Tensor:
    """Returns values of rows with zeros in the unused places."""
    if not in_xla():
        return values
    used = tf.reshape(ids < height, (-1,) + (1,) * (len(values.shape) - 1))
    return tf.where(used, values, tf.zeros_like(values))


def scatter(variable: Any, ids: tf.Tensor, values: tf.Tensor) -> None:
    """Overwrites rows of a Keras or TensorFlow variable.

    After a scatter TensorFlow copies the whole variable at every later read, so the
    next forward pass of an `Embedding` would cost the whole table. That mode is
    switched off again here. Reading by reference is safe without it: the next scatter
    copies the table if anything still holds it.
    """
    variable = raw(variable)
    if not isinstance(variable, tf.Variable):
        # A slot of a small table, part of a flat variable.
        variable.assign(tf.tensor_scatter_nd_update(variable, ids[:, None], values))
        return
    tf.raw_ops.ResourceScatterUpdate(
        resource=variable.handle,
        indices=ids,
        updates=tf.cast(values, variable.dtype),
    )
    if not in_xla():
        tf.raw_ops.DisableCopyOnRead(resource=variable.handle)


def next_block(cursor: Any, size: tf.Tensor, height: int) -> tf.Tensor:
    """Returns the ids of the next `size` rows in turn, starting over after the last.

    Args:
        cursor: int64 scalar variable, the first row of the block; moved on.
        size: Number of rows, at most `height`.
        height: Number of rows of the table.
    """
    start = tf.identity(tf.convert_to_tensor(cursor))
    ids = tf.math.floormod(start + tf.range(size, dtype=tf.int64), height)
    cursor.assign(tf.math.floormod(start + tf.cast(size, tf.int64), height))
    return ids


def for_each_block(height: int, function: Callable[[tf.Tensor], None]) -> None:
    """Calls `function(ids)` for blocks of consecutive rows, the whole table."""
    size = min(BLOCK, height)

    def body(start: tf.Tensor) -> tuple[tf.Tensor]:
        if in_xla():
            ids = tf.minimum(start + tf.range(size, dtype=tf.int64), height)
        else:
            ids = tf.range(start, tf.minimum(start + size, height))
        function(ids)
        return (start + size,)

    tf.while_loop(lambda start: start < height, body, (tf.constant(0, tf.int64),))


def add_pending(ids: tf.Tensor, queue: Any, queued: Any, count: Any) -> None:
    """Puts the rows that are not queued yet at the end of the queue.

    Args:
        ids: Unique row ids.
        queue: int64 variable of shape `(height + 1,)`; the last place is waste.
        queued: bool variable of shape `(height,)`.
        count: int64 scalar variable, the length of the queue.
    """
    height = queued.shape[0]
    fresh = ~gather(queued, ids) & (ids < height)
    place = tf.convert_to_tensor(count) + tf.cumsum(tf.cast(fresh, tf.int64)) - 1
    scatter(queue, tf.where(fresh, place, tf.constant(height, tf.int64)), ids)
    scatter(queued, ids, tf.ones_like(fresh))
    count.assign_add(tf.reduce_sum(tf.cast(fresh, tf.int64)))


def drain_pending(queue: Any, queued: Any, count: Any) -> tf.Tensor:
    """Empties the queue of `add_pending` and returns the ids that it held."""
    height = queued.shape[0]
    length = tf.identity(tf.convert_to_tensor(count))
    place = tf.range(height if in_xla() else length, dtype=tf.int64)
    ids = gather(queue, place)
    if in_xla():
        ids = tf.where(place < length, ids, tf.constant(height, tf.int64))
    scatter(queued, ids, tf.zeros_like(ids, tf.bool))
    count.assign(0)
    return ids


def can_look_up(ids: Any) -> bool:
    """Returns whether `lookup` works here: not under `tf.distribute`."""
    return not tf.distribute.has_strategy()


def lookup(variable: Any, ids: tf.Tensor, optimizer: Any) -> tf.Tensor:
    """Returns rows as they are now. Their gradient has each row once outside of XLA.

    Args:
        variable: The table, a Keras variable.
        ids: Integer tensor of any shape.
        optimizer: The optimizer that updates the table.
    """
    flat_ids = tf.cast(tf.reshape(ids, [-1]), tf.int64)
    if in_xla():
        unique, places = flat_ids, tf.range(tf.size(flat_ids, tf.int64))
    else:
        unique, places = tf.unique(flat_ids, tf.int64)
    taken = _at(distinct(variable, unique, optimizer), places)
    shape = tf.concat([tf.shape(ids), tf.shape(taken)[1:]], axis=0)
    outputs = tf.reshape(taken, shape)
    return tf.ensure_shape(outputs, [*ids.shape, *variable.shape[1:]])


def distinct(variable: Any, ids: tf.Tensor, optimizer: Any) -> tf.Tensor:
    """Returns rows as they are now. Their gradient is sparse and has the same ids.

    Args:
        variable: The table, a Keras variable.
        ids: int64 tensor of shape `(n,)`, without repetitions outside of XLA.
        optimizer: The optimizer that updates the table.
    """
    values = tf.stop_gradient(optimizer.rows_now(variable, ids))
    height = int(variable.shape[0])

    @tf.custom_gradient
    def stand_for(table: tf.Tensor) -> Any:
        def backward(upstream: tf.Tensor) -> tf.IndexedSlices:
            shape = tf.constant([height, *table.shape[1:]], tf.int64)
            return tf.IndexedSlices(upstream, ids, shape)

        return tf.identity(values), backward

    return stand_for(by_reference(variable))


def _at(values: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Returns rows at places, of which XLA has each one once."""

    @tf.custom_gradient
    def taken(values: tf.Tensor) -> Any:
        def backward(upstream: tf.Tensor) -> tf.Tensor:
            if in_xla():
                return upstream
            return segment_sum(upstream, places, tf.shape(values, tf.int64)[0])

        return tf.gather(values, places), backward

    return taken(values)


def by_reference(variable: Any) -> tf.Tensor:
    """Returns the value of a variable without a copy.

    After a scatter into a variable, as in Keras's SGD, TensorFlow copies the variable
    each time it is read, until that is switched off. TensorFlow still makes a copy when
    the variable is written while its value is in use.
    """
    variable = raw(variable)
    if isinstance(variable, tf.Variable) and not tf.distribute.has_strategy():
        tf.raw_ops.DisableCopyOnRead(resource=variable.handle)
    return tf.convert_to_tensor(variable)
