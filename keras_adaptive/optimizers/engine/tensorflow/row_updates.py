"""Updates of the rows that a sparse gradient touches, and of those it does not.

TensorFlow only: the other backends hand over dense gradients.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_adaptive.optimizers.engine.tensorflow import catch_up as deferred
from keras_adaptive.optimizers.engine.tensorflow import rows

CALLS_PER_TURN = 32
"""Once in so many calls a deferred optimizer flushes further rows, in turn."""

SMALL_TABLE = 2**15
"""A deferred optimizer updates tables of at most so many entries whole."""

ROWS_PER_ID = 2
"""It also does so with tables of at most so many rows for each row of a gradient;
with 0 never.

Both are where the two ways cost the same; see `benchmarks/small_tables.py`.
"""


class SparseUpdates:
    """The sparse half of an optimizer: row clocks, queues, catching up.

    The variables that it needs are made when a variable gets its first sparse
    gradient, so a model without any pays nothing.

    Args:
        optimizer: The `AdaptiveOptimizer` that it belongs to.

    Attributes:
        state: Row state by name and index of the model variable. `clock` counts
            the calls of `apply` that each row has seen; `cursor` is the next row to
            bring up to date in turn; `queue`, `queued` and `queue_length` hold the
            rows with accumulated gradients.
        tables: The coefficients of `deferred`, by name, in place `call % HISTORY`;
            with `"decayed "` before the name those of variables that decay.
    """

    def __init__(self, optimizer):
        self.optimizer = optimizer
        self.state: dict[str, dict[int, keras.Variable]] = {}
        self.tables: dict[str, keras.Variable] = {}
        self._indices: set[int] = set()

    # What is kept.

    def has_clock(self, i: int) -> bool:
        return i in self.state.get("clock", {})

    def is_table(self, i: int) -> bool:
        """Whether variable `i` has had a sparse gradient or row state."""
        return i in self._indices

    def knows(self, i: int) -> bool:
        return any(i in variables for variables in self.state.values())

    @property
    def _deferred(self) -> bool:
        return self.optimizer.sparse == "deferred"

    @property
    def _part(self):
        """The optimizer whose rule updates rows."""
        return self.optimizer._sparse_part()

    @property
    def _changes(self) -> bool:
        """Whether anything but decay changes in a row while its gradient is zero."""
        return self._deferred and not self._part._stands_still()

    def _drift(self, hyper):
        """Of a row whose gradient is zero; a cautious step leaves it alone."""
        return None if self.optimizer.cautious else self._part.drift(hyper)

    def prepare(self, i: int) -> None:
        """Makes the row state of variable `i` unless it is there."""
        self._indices.add(i)
        if self.knows(i):
            return
        optimizer = self.optimizer
        height = int(optimizer._trainable_variables[i].shape[0])
        decays = self._deferred and optimizer._decays(i)
        with tf.init_scope():
            now = int(ops.convert_to_numpy(optimizer._iterations))
            if self._changes or decays or optimizer.use_ema:
                self._add("clock", i, (height,), "int64", now)
            if self._deferred and self.has_clock(i):
                self._add("cursor", i, (), "int64")
                hyper = optimizer._hyper(optimizer.learning_rate, "float64")
                drifts = self._changes and self._drift(hyper) is not None
                for name in deferred.columns(drifts, decays, optimizer.use_ema):
                    key = _key(name, decays)
                    if key not in self.tables:
                        self.tables[key] = self._variable(
                            key.replace(" ", "_"),
                            (deferred.HISTORY,),
                            "float64",
                            deferred.BEGINNING[name],
                        )
            if optimizer.gradient_accumulation_steps:
                # Dense gradients that were accumulated before touch all rows.
                begun = now % optimizer.gradient_accumulation_steps > 0
                self._add("queue", i, (height + 1,), "int64")
                if begun:
                    queue = self.state["queue"][i]
                    queue.assign(tf.range(height + 1, dtype=tf.int64))
                self._add("queued", i, (height,), "bool", begun)
                self._add("queue_length", i, (), "int64", height * begun)

    def named_variables(self) -> dict[str, keras.Variable]:
        """All that has to be saved, by name."""
        named = {
            f"row_{name}:{i}": variable
            for name, variables in self.state.items()
            for i, variable in variables.items()
        }
        tables = {
            f"row_table_{key.replace(' ', '_')}": variable
            for key, variable in self.tables.items()
        }
        return named | tables

    def restart(self, names, now: int) -> None:
        """Makes the row state of these names, and starts all of it at a call.

        Args:
            names: Names as in `named_variables`.
            now: The number of calls of `apply` so far.
        """
        for name in names:
            index = name.partition(":")[2]
            if index:
                self.prepare(int(index))
        for name, variables in self.state.items():
            for variable in variables.values():
                variable.assign(
                    tf.fill(
                        variable.shape,
                        tf.cast(now if name == "clock" else 0, variable.dtype),
                    )
                )
        for key, variable in self.tables.items():
            beginning = deferred.BEGINNING[key.removeprefix("decayed ")]
            variable.assign(tf.fill(variable.shape, tf.cast(beginning, variable.dtype)))

    def _add(self, name, i, shape, dtype, initial=0) -> None:
        self.state.setdefault(name, {})[i] = self._variable(
            f"{name}_{i}", shape, dtype, initial
        )

    def _variable(self, name, shape, dtype, initial):
        return self.optimizer.add_variable(
            shape=shape,
            initializer=lambda shape, dtype: tf.fill(shape, tf.cast(initial, dtype)),
            dtype=dtype,
            aggregation="only_first_replica",
            name=name,
        )

    def _columns(self, decays: bool) -> dict[str, keras.Variable]:
        return {
            name: self.tables[_key(name, decays)]
            for name in deferred.BEGINNING
            if _key(name, decays) in self.tables
        }

    # From a gradient to rows.

    def by_row(self, gradient, i: int):
        """The gradient as unique rows; as it is, if there is nothing sparse to it."""
        if isinstance(gradient, tf.IndexedSlices):
            return self._coalesced(gradient, i)
        if self.knows(i):
            ids = tf.range(gradient.shape[0], dtype=tf.int64)
            return rows.Rows(ids, gradient)
        return gradient

    def _coalesced(self, gradient: tf.IndexedSlices, i: int):
        variable = self.optimizer._trainable_variables[i]
        height = int(variable.shape[0])
        name = getattr(variable, "path", variable.name)
        values = tf.cast(gradient.values, self.optimizer._compute_dtype(i))
        densify = (
            self.optimizer.sparse == "dense"
            or self.optimizer._replicated
            or self.optimizer._part(i).dense_only is not None
            or self._is_small_table(i)
        )
        if self.optimizer._replicated and self.optimizer.sparse == "lazy":
            raise ValueError(
                "sparse='lazy' does not work with several replicas yet. Use "
                "sparse='deferred' or sparse='dense': with replicas both update the "
                "whole table."
            )
        if densify:
            # It sums repeated rows as well.
            ids = rows.checked_ids(gradient.indices, height, name)
            return rows.dense(rows.Rows(ids, values), tuple(variable.shape))
        self.prepare(i)
        values = tf.ensure_shape(values, [None, *variable.shape[1:]])
        return rows.coalesce(gradient.indices, values, height, name)

    def _is_small_table(self, i: int) -> bool:
        entries = np.prod(self.optimizer._trainable_variables[i].shape)
        return self._deferred and entries <= SMALL_TABLE and not self.knows(i)

    def accumulate(self, gradient: rows.Rows, i: int, accumulator) -> None:
        """Adds a gradient to the accumulator and queues its rows."""
        total = rows.gather(accumulator, gradient.ids) + gradient.values
        rows.scatter(accumulator, gradient.ids, total)
        rows.add_pending(gradient.ids, *self._queue(i))

    def drained(self, i: int, accumulator) -> rows.Rows:
        """The accumulated gradient, and zeros in its place."""
        ids = rows.drain_pending(*self._queue(i))
        values = rows.gather(accumulator, ids)
        rows.scatter(accumulator, ids, tf.zeros_like(values))
        values = rows.zero_unused(values, ids, int(accumulator.shape[0]))
        return rows.Rows(ids, values)

    def _queue(self, i: int):
        return (self.state[name][i] for name in ("queue", "queued", "queue_length"))

    # Updates.

    def update(self, gradient: rows.Rows, variable, i: int, learning_rate) -> None:
        """One update by a gradient, of its rows or of all, whichever costs less."""
        height = int(variable.shape[0])
        late_ids = _when_gradient_is_there(gradient, gradient.ids)

        def by_row():
            self._update_rows(gradient, late_ids, variable, i, learning_rate)

        def whole():
            self._update_all(gradient, variable, i, learning_rate)

        count, most = gradient.ids.shape[0], gradient.source.shape[0]
        never = not (self._deferred and ROWS_PER_ID) or rows.in_xla()
        if never or (most is not None and most * ROWS_PER_ID < height):
            by_row()
        elif count is not None and count * ROWS_PER_ID >= height:
            whole()
        else:
            tf.cond(tf.size(gradient.ids) * ROWS_PER_ID >= height, whole, by_row)

    def _update_all(self, gradient: rows.Rows, variable, i: int, learning_rate):
        optimizer = self.optimizer
        now = tf.convert_to_tensor(optimizer._iterations)
        clock = self.state.get("clock", {}).get(i)
        if clock is not None:
            behind = tf.reduce_min(tf.convert_to_tensor(clock)) < now
            tf.cond(behind, lambda: self.flush(i, variable, now), lambda: None)
            # Zeros of this shape would stay in memory as a constant of the graph.
            clock.assign(tf.maximum(tf.convert_to_tensor(clock), now + 1))
        gradient = rows.dense(gradient, tuple(variable.shape))
        optimizer._update_each([(gradient, variable)], learning_rate)
        average = optimizer._average(i)
        if average is not None and clock is not None:
            parameter = tf.cast(rows.raw(variable), average.dtype)
            average.assign(optimizer._averaged(average, parameter))

    def _update_rows(self, gradient, late_ids, variable, i: int, learning_rate):
        optimizer = self.optimizer
        ids, slots = gradient.ids, optimizer._slots(i)
        hyper = optimizer._hyper(learning_rate, optimizer._compute_dtype(i), i)
        now = tf.convert_to_tensor(optimizer._iterations)
        parameter, state, average = self._read(variable, i, slots, ids, late_ids)
        if self.has_clock(i):
            parameter, state, average = self._caught_up(
                parameter, state, average, i, ids, now, hyper
            )
        parameter, state = optimizer._advanced(
            parameter, state, gradient.values, i, hyper
        )
        if average is not None:
            average = optimizer._averaged(average, parameter)
        self._write(variable, i, slots, ids, parameter, state, average, now + 1)

    def take_turns(self, gradients, variables) -> None:
        """Every few calls of `apply` brings the next rows of each table up to date.

        They are as many as its gradient has, but so many that no row is ever too old
        for the coefficients that are kept.
        """
        calls = tf.convert_to_tensor(self.optimizer._iterations) + 1
        for gradient, variable in zip(gradients, variables, strict=True):
            i = self.optimizer._get_variable_index(variable)
            cursor = self.state.get("cursor", {}).get(i)
            if isinstance(gradient, rows.Rows) and cursor is not None:
                now = _when_gradient_is_there(gradient, calls)
                self._take_turn(cursor, tf.size(gradient.ids), i, variable, now)

    def _take_turn(self, cursor, touched, i: int, variable, now) -> None:
        height = int(variable.shape[0])
        turns = (deferred.HISTORY - 1) // CALLS_PER_TURN - 1

        def flush():
            size = tf.clip_by_value(touched, -(-height // turns), height)
            block = rows.next_block(cursor, size, height)
            self._flush_rows(block, i, variable, now)

        its_turn = tf.equal(now % CALLS_PER_TURN, 0)
        tf.cond(its_turn, flush, lambda: None)

    def flush(self, i: int, variable, now, point: Callable | None = None) -> None:
        """Brings all rows of a variable up to date, a block at a time.

        Args:
            i: The index of the variable.
            variable: The variable.
            now: The number of calls of `apply` to bring it up to.
            point: Where to move the rows then: a function of `(parameter, state,
                average, hyper)` that returns the first three.
        """
        now = tf.convert_to_tensor(now)
        rows.for_each_block(
            int(variable.shape[0]),
            lambda ids: self._flush_rows(ids, i, variable, now, point),
        )

    def _flush_rows(self, ids, i: int, variable, now, point=None) -> None:
        optimizer = self.optimizer
        slots = optimizer._slots(i)
        hyper = optimizer._hyper(
            optimizer.learning_rate, optimizer._compute_dtype(i), i
        )
        values = self._read(variable, i, slots, ids, ids)
        if self.has_clock(i):
            values = self._caught_up(*values, i, ids, now, hyper)
        if point is not None:
            values = point(*values, hyper)
        self._write(variable, i, slots, ids, *values, now)

    def advance(self, update, learning_rate) -> None:
        """Takes the coefficients one call of `apply` further.

        Args:
            update: Bool scalar, whether this call is an update.
            learning_rate: The learning rate of this call.
        """
        optimizer = self.optimizer
        for decays in (False, True):
            table = self._columns(decays)
            if not table:
                continue
            hyper = optimizer._hyper(learning_rate, "float64")
            numbers = {}
            if "drift" in table:
                numbers["rate"], numbers["ratio"] = self._drift(hyper)
            if decays:
                numbers["decay"] = hyper.learning_rate * hyper.weight_decay
            if "old" in table:
                numbers["momentum"] = optimizer._average_momentum("float64")
            new = deferred.advanced(
                {name: tf.convert_to_tensor(v) for name, v in table.items()},
                update,
                **numbers,
            )
            place = deferred.place(tf.convert_to_tensor(optimizer._iterations) + 1)
            for name, column in new.items():
                beginning = tf.constant([deferred.BEGINNING[name]], column.dtype)
                # Before it is assigned: that has to wait for the rows' reading it.
                column = tf.tensor_scatter_nd_update(column, [[place]], beginning)
                table[name].assign(column)

    def _updates(self, calls):
        """The number of updates in so many calls of `apply`."""
        accumulation = self.optimizer.gradient_accumulation_steps
        return calls // accumulation if accumulation else calls

    def _caught_up(self, parameter, state, average, i, ids, now, hyper):
        """Rows after the steps that they have missed up to call `now`."""
        optimizer = self.optimizer
        clock = rows.gather(self.state["clock"][i], ids)
        direction = None
        if self._changes:
            updates = self._updates(now) - self._updates(clock)
            shape = (-1,) + (1,) * (len(parameter.shape) - 1)
            missed = tf.reshape(tf.cast(updates, hyper.dtype), shape)
            hyper.parameter = parameter
            direction, state = self._part.idle(state, missed, hyper)
            if optimizer.cautious:
                direction = None
        if self._deferred:
            place = deferred.place(tf.maximum(clock, now + 1 - deferred.HISTORY))
            coefficients = {
                name: tf.cast(rows.gather(column, place), hyper.dtype)
                for name, column in self._columns(optimizer._decays(i)).items()
                if name != "power"
            }
        else:
            accumulation = optimizer.gradient_accumulation_steps or 1
            coefficients = deferred.standing_average(
                now - clock,
                (clock < accumulation) & (clock < now),
                optimizer.ema_momentum,
                hyper.dtype,
            )
        parameter, average = deferred.caught_up(
            parameter, average, direction, coefficients
        )
        return parameter, state, average

    def _read(self, variable, i: int, slots, ids, late_ids):
        dtype = self.optimizer._compute_dtype(i)
        parameter = ops.cast(rows.gather(variable, late_ids), dtype)
        # A rule may sum over the rows at hand, to which unused places add nothing.
        height = int(variable.shape[0])
        state = {
            name: rows.zero_unused(rows.gather(slot, ids), ids, height)
            for name, slot in slots.items()
        }
        average = self.optimizer._average(i)
        if average is not None:
            average = rows.gather(average, ids)
        return parameter, state, average

    def _write(self, variable, i, slots, ids, parameter, state, average, now) -> None:
        rows.scatter(variable, ids, parameter)
        for name, slot in slots.items():
            rows.scatter(slot, ids, state[name])
        if average is not None:
            rows.scatter(self.optimizer._average(i), ids, average)
        if self.has_clock(i):
            rows.scatter(self.state["clock"][i], ids, tf.zeros_like(ids) + now)


def _when_gradient_is_there(gradient: rows.Rows, value: tf.Tensor) -> tf.Tensor:
    """The value, but not before the forward pass has let go of the table.

    Ids and clocks are known before. Rows of a table that are read while it is held
    make TensorFlow copy all of it; those of its state may be read at any time.
    """
    with tf.control_dependencies([gradient.source]):
        return tf.identity(value)


def _key(column: str, decays: bool) -> str:
    return f"decayed {column}" if decays else column
