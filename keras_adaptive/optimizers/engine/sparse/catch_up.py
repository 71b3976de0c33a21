"""Skipped steps in closed form: the path of a row while its gradient is zero.

In a dense optimizer a row moves even when no batch touches it: momentum drifts on,
moments and weights decay, the moving average follows. Here all skipped steps are
applied at once, when the row is next touched or flushed.

While its gradient is zero, a row moves along a fixed direction u: at the j-th skipped
update by `rate * ratio**j * u`, where `rate` is a number of the update, such as Adam's
bias-corrected learning rate. Weight decay and the moving average are linear, too. For a
row with weights w and average x when it was last up to date,

    w ← decay · w - drift · u
    x ← old · x + standing · w - lag · u

where the coefficients depend only on when that was. One table holds them for all rows,
with a place for each of the last `HISTORY` calls of `apply`. Each call takes every
place one step further, which is exact under any schedule. A row then catches up by
reading its place, however many steps it has skipped.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_adaptive.optimizers.engine.step import StepContext

HISTORY = 2**14
"""The number of past calls of `apply` with known coefficients; a power of two."""


def place(call: Any) -> Any:
    """Returns the place of the coefficients of a call: the call modulo `HISTORY`."""
    return ops.bitwise_and(call, HISTORY - 1)


def rows_change(context: StepContext) -> bool:
    """Returns whether anything but decay changes in a row with zero gradient."""
    return context.deferred and not context.row_algorithm.stands_still()


BEGINNING = {
    "steps": 0.0,
    "power": 1.0,
    "drift": 0.0,
    "decay": 1.0,
    "old": 1.0,
    "standing": 0.0,
    "lag": 0.0,
}
"""The coefficients of a row that is up to date."""


def columns(counts: bool, drifts: bool, decays: bool, averages: bool) -> list[str]:
    """Returns the names of the coefficients to keep.

    Args:
        counts: Whether to count the updates, because not every call is one.
        drifts: Whether rows move while their gradient is zero.
        decays: Whether weights decay.
        averages: Whether there is a moving average.
    """
    kept = ["steps"] if counts else []
    kept += ["power", "drift"] if drifts else []
    kept += ["decay"] if decays else []
    kept += ["old", "standing"] if averages else []
    return kept + (["lag"] if drifts and averages else [])


def advanced(
    table: dict[str, Any],
    update: Any,
    rate: Any = 0.0,
    ratio: Any = 1.0,
    decay: Any = 0.0,
    momentum: Any = 0.0,
) -> dict[str, Any]:
    """Returns the coefficients after one more call of `apply`.

    Args:
        table: The columns to keep, by name; float tensors of one shape.
        update: Whether the call is an update: `True`, or a bool scalar tensor; with
            gradient accumulation not every call is.
        rate: The rate of the drift in this update.
        ratio: The factor from one skipped step to the next.
        decay: The share of the weights that this update decays.
        momentum: The momentum of the moving average in this call.

    Returns:
        The same columns.
    """
    new = dict(table)
    if "steps" in table:
        new["steps"] = table["steps"] + 1
    if "decay" in table:
        kept = 1 - decay
        new.update({n: c * kept for n, c in table.items() if n in ("decay", "drift")})
    if "power" in table:
        new["power"] = table["power"] * ratio
        new["drift"] = new["drift"] + rate * new["power"]
    if update is not True:
        new = {n: ops.where(update, column, table[n]) for n, column in new.items()}
    if "old" in table:
        row = new.get("decay", 1)
        new["old"] = momentum * table["old"]
        new["standing"] = momentum * table["standing"] + (1 - momentum) * row
    if "lag" in table:
        new["lag"] = momentum * table["lag"] + (1 - momentum) * new["drift"]
    return new


def caught_up(
    parameter: Any, average: Any, direction: Any, coefficients: dict[str, Any]
) -> tuple[Any, Any]:
    """Returns rows and their moving averages after the steps that they skipped.

    Args:
        parameter: Tensor of shape `(n, ...)`, the rows when last up to date.
        average: Their moving averages then, or `None`.
        direction: The direction of the drift, of the same shape, or `None`.
        coefficients: One number a row, tensors of shape `(n,)`, by name.

    Returns:
        `(parameter, average)`.
    """
    shape = (-1,) + (1,) * (len(parameter.shape) - 1)
    per_row = {name: ops.reshape(c, shape) for name, c in coefficients.items()}
    if average is not None:
        average = per_row["old"] * average + per_row["standing"] * parameter
        if direction is not None:
            average = average - per_row["lag"] * direction
    if "decay" in per_row:
        parameter = per_row["decay"] * parameter
    if direction is not None:
        parameter = parameter - per_row["drift"] * direction
    return parameter, average


def standing_average(
    calls: Any, begins: Any, momentum: Any, dtype: str
) -> dict[str, Any]:
    """Returns the coefficients of rows that stand still.

    They follow from the number of skipped calls alone.

    Args:
        calls: Integer tensor `(n,)`, the calls of `apply` that rows skipped.
        begins: Bool tensor `(n,)`, whether the average begins among these calls.
        momentum: The momentum of the moving average.
        dtype: The dtype to compute in.
    """
    old = ops.power(ops.convert_to_tensor(momentum, dtype), ops.cast(calls, dtype))
    old = ops.where(begins, ops.zeros_like(old), old)
    return {"old": old, "standing": 1 - old}
