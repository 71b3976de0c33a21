"""The state of rows: clocks, queues, and the coefficients of skipped steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.contract.hyper import Hyper
from keras_adaptive.optimizers.engine import averaging
from keras_adaptive.optimizers.engine.backend import outside_of_graphs, values_now
from keras_adaptive.optimizers.engine.checkpoint import ROW_STATE
from keras_adaptive.optimizers.engine.sparse import catch_up
from keras_adaptive.optimizers.engine.sparse.primitives import rows
from keras_adaptive.optimizers.engine.step import StepContext, VariableState


class RowState:
    """The row state of an optimizer.

    Args:
        add_variable: The optimizer's method.

    Attributes:
        numbers: `calls` counts the calls of `apply` since there are rows, apart from
            the optimizer's `iterations`, which users may assign; `restart` is the last
            of these at which the moving average began.
        by_name: Row state by name and index of the model variable. `clock` is the
            number of `calls` that each row has seen; `cursor` is the next row to bring
            up to date in turn; `queue`, `queued` and `queue_length` hold the rows with
            accumulated gradients.
        coefficients: The coefficients of `catch_up`, by name, in place `call %
            HISTORY`; with `"decayed "` before the name those of variables that decay.
        tables: The indices of the variables that had a sparse gradient or row state.
    """

    def __init__(self, add_variable: Callable[..., keras.Variable]) -> None:
        self._add_variable = add_variable
        self.numbers: dict[str, keras.Variable] = {}
        self.by_name: dict[str, dict[int, keras.Variable]] = {}
        self.coefficients: dict[str, keras.Variable] = {}
        self.tables: set[int] = set()

    @property
    def calls(self) -> Any:
        """The calls of `apply` since there are rows."""
        return values_now(self.numbers["calls"])

    @property
    def clocks(self) -> dict[int, keras.Variable]:
        """The clock of each variable whose rows may be behind, by index."""
        return self.by_name.get("clock", {})

    @property
    def cursors(self) -> dict[int, keras.Variable]:
        """The next row to bring up to date in turn, by index of the variable."""
        return self.by_name.get("cursor", {})

    def queue(self, index: int) -> Sequence[keras.Variable]:
        """Returns the queue of rows with accumulated gradients."""
        names = ("queue", "queued", "queue_length")
        return [self.by_name[name][index] for name in names]

    def has_any(self, index: int) -> bool:
        """Returns whether there is row state of a variable."""
        return any(index in variables for variables in self.by_name.values())

    def columns(self, decays: bool) -> dict[str, keras.Variable]:
        """Returns the coefficients of variables that decay, or of those that do not."""
        return {
            name: self.coefficients[_key(name, decays)]
            for name in catch_up.BEGINNING
            if _key(name, decays) in self.coefficients
        }

    def prepare(self, state: VariableState, context: StepContext) -> None:
        """Adds the row state of a variable, unless it is there."""
        i = state.index
        self.tables.add(i)
        if self.has_any(i):
            return
        height = int(state.variable.shape[0])
        self._add_clock(state, context)
        with outside_of_graphs():
            if context.accumulation:
                shapes = {"queue": (height + 1,), "queued": (height,)}
                for name, value in _begun_queue(height, context).items():
                    dtype = "bool" if name == "queued" else "int64"
                    self._add(name, i, shapes.get(name, ()), dtype, value)

    def _add_number(self, name: str, initial: int) -> None:
        if name not in self.numbers:
            self.numbers[name] = self._variable(f"row_{name}", (), "int64", initial)

    def decay_has_changed(
        self, states: Sequence[VariableState], context: StepContext
    ) -> None:
        """Adds what rows need that decay now, or no longer do; all are up to date.

        Args:
            states: The variables by index.
            context: The step.
        """
        for i in self.tables:
            self._add_clock(states[i], context)

    def _add_clock(self, state: VariableState, context: StepContext) -> None:
        """Adds the clock of rows that may fall behind, and their coefficients."""
        i, height = state.index, int(state.variable.shape[0])
        decays = context.deferred and state.decays
        averages = context.ema_momentum is not None
        changes = catch_up.rows_change(context)
        kinds = tuple(_drifts(context, context.row_hyper())) if changes else ()
        counts = changes and context.accumulation is not None
        with outside_of_graphs():
            if (changes or decays or averages) and i not in self.clocks:
                self._add_number("calls", 0)
                if averages and not context.deferred:
                    self._add_number("restart", -1)
                self._add("clock", i, (height,), "int64", self.calls)
            if context.deferred and i in self.clocks:
                if i not in self.cursors:
                    self._add("cursor", i, (), "int64")
                self._add_coefficients(counts, kinds, decays, averages)

    def _add_coefficients(
        self, counts: bool, kinds: Sequence[str], decays: bool, averages: bool
    ) -> None:
        for name in catch_up.columns(counts, kinds, decays, averages):
            key = _key(name, decays)
            if key not in self.coefficients:
                self.coefficients[key] = self._variable(
                    key.replace(" ", "_"),
                    (catch_up.HISTORY,),
                    "float64",
                    catch_up.BEGINNING[name],
                )

    def _add(
        self,
        name: str,
        i: int,
        shape: tuple[int, ...],
        dtype: str,
        initial: Any = 0,
    ) -> None:
        variable = self._variable(f"{name}_{i}", shape, dtype, initial)
        self.by_name.setdefault(name, {})[i] = variable

    def _variable(
        self, name: str, shape: tuple[int, ...], dtype: str, initial: Any
    ) -> keras.Variable:
        # The initializer sets all of it: `tf.train.Checkpoint` may restore a variable
        # the moment it is made, and nothing may overwrite it afterwards.
        return self._add_variable(
            shape=shape,
            initializer=lambda shape, dtype: _filled(initial, dtype, shape),
            dtype=dtype,
            aggregation="only_first_replica",
            name=name,
        )

    def named_variables(self) -> dict[str, keras.Variable]:
        """Returns the variables to save, by name."""
        numbers = {f"{ROW_STATE}{name}": v for name, v in self.numbers.items()}
        named = {
            f"{ROW_STATE}{name}:{i}": variable
            for name, variables in self.by_name.items()
            for i, variable in variables.items()
        }
        coefficients = {
            f"{ROW_STATE}table_{key.replace(' ', '_')}": variable
            for key, variable in self.coefficients.items()
        }
        return numbers | named | coefficients

    def restart(
        self,
        names: Iterable[str],
        states: Sequence[VariableState],
        context: StepContext,
    ) -> None:
        """Adds the row state of these names, and starts all of it anew.

        Args:
            names: Names as in `named_variables`.
            states: The variables by index.
            context: The step.
        """
        indices = {name.partition(":")[2] for name in names} - {""}
        for index in sorted(map(int, indices)):
            self.prepare(states[index], context)
        for name, variable in self.numbers.items():
            _fill(variable, -1 if name == "restart" else 0)
        for variables in self.by_name.values():
            for variable in variables.values():
                _fill(variable, 0)
        for key, variable in self.coefficients.items():
            _fill(variable, catch_up.BEGINNING[key.removeprefix("decayed ")])

    def queue_all(
        self,
        names: Iterable[str],
        states: Sequence[VariableState],
        context: StepContext,
    ) -> None:
        """Queues all rows of the variables whose queue a loaded state does not have.

        Args:
            names: The names in the state, as in `named_variables`.
            states: The variables by index.
            context: The step at which the state was saved.
        """
        present = set(names)
        for i in self.by_name.get("queue", {}):
            if f"{ROW_STATE}queue:{i}" not in present:
                height = int(states[i].variable.shape[0])
                for name, value in _begun_queue(height, context).items():
                    _fill(self.by_name[name][i], value)

    def restart_clock(self, state: VariableState) -> None:
        """Says that all rows of a variable are up to date."""
        _fill(self.clocks[state.index], self.calls)

    def advance(self, update: Any, context: StepContext) -> None:
        """Takes the coefficients one call of `apply` further.

        Args:
            update: Bool scalar, whether this call is an update.
            context: The step.
        """
        for decays in (False, True):
            columns = self.columns(decays)
            if not columns:
                continue
            hyper = context.row_hyper()
            numbers: dict[str, Any] = {}
            if "drift" in columns:
                numbers["drifts"] = _drifts(context, hyper)
            if decays:
                numbers["decay"] = hyper.learning_rate * hyper.weight_decay
            if "old" in columns:
                numbers["momentum"] = averaging.momentum(context, "float64")
            new = catch_up.advanced(
                {name: values_now(v) for name, v in columns.items()},
                update,
                **numbers,
            )
            place = catch_up.place(self.calls + 1)
            for name, column in new.items():
                # Before it is assigned: that has to wait for the rows' reading it.
                column = rows.replaced(column, place, catch_up.BEGINNING[name])
                columns[name].assign(column)
        if "restart" in self.numbers:
            begins = ops.equal(values_now(context.iterations), 0)
            restart = values_now(self.numbers["restart"])
            self.numbers["restart"].assign(ops.where(begins, self.calls, restart))
        if self.numbers:
            self.numbers["calls"].assign_add(1)


def _begun_queue(height: int, context: StepContext) -> dict[str, Any]:
    """Returns the queue of a variable: all rows, in the middle of an accumulation.

    The dense gradients that were accumulated before touched all of them.
    """
    assert context.accumulation is not None
    begun = int(ops.convert_to_numpy(context.calls)) % context.accumulation > 0
    return {
        "queue": ops.arange(height + 1, dtype="int64") if begun else 0,
        "queued": begun,
        "queue_length": height if begun else 0,
    }


def _drifts(context: StepContext, hyper: Hyper) -> dict[str, tuple[Any, Any]]:
    """Returns the drifts of rows with zero gradient, by kind, as `catch_up` sums them.

    A cautious step leaves such rows.
    """
    algorithm = context.row_algorithm
    drift = None if context.cautious else algorithm.drift(hyper)
    if drift is None:
        return {}
    return catch_up.drifts_by_kind(*drift, algorithm.floor_growth(hyper))


def _key(column: str, decays: bool) -> str:
    return f"decayed {column}" if decays else column


def _fill(variable: keras.Variable, value: Any) -> None:
    variable.assign(_filled(value, variable.dtype, tuple(variable.shape)))


def _filled(value: Any, dtype: str, shape: tuple[int, ...]) -> Any:
    # A copy: on PyTorch entries of what is broadcast share their memory.
    return ops.copy(ops.broadcast_to(ops.cast(value, dtype), shape))
