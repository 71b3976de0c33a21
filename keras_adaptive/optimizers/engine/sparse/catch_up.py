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

The direction may be a `Quotient` n / (s + ε) whose floor ε grows relative to s. The
j-th skipped step is then aⱼ n / (s + ε yⱼ). Three sums take the place of the drift: A
of aⱼ, B of aⱼ / yⱼ and C of aⱼ yⱼ. The growth yⱼ has the harmonic mean h = A / B and
the arithmetic mean C / A. All steps together are taken for

    A n / (s + ε y),  y = h + (C / A - h) s / (s + ε h)

This is exact where s or ε is all of the denominator, and to the first order of ε / s.
In between, the error is of the third order of the deviations of yⱼ from their mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras import ops

from keras_adaptive.optimizers.contract.quotient import Quotient
from keras_adaptive.optimizers.engine.step import StepContext

HISTORY = 2**14
"""The number of past calls of `apply` with known coefficients; a power of two."""

OVER_GROWTH, BY_GROWTH = "_over_growth", "_by_growth"
KINDS = "", OVER_GROWTH, BY_GROWTH
"""The sums over skipped steps, A, B and C, by the end of their names."""


def place(call: Any) -> Any:
    """Returns the place of the coefficients of a call: the call modulo `HISTORY`."""
    return ops.bitwise_and(call, HISTORY - 1)


def rows_change(context: StepContext) -> bool:
    """Returns whether anything but decay changes in a row with zero gradient."""
    return context.deferred and not context.row_algorithm.stands_still()


BEGINNING = {
    "steps": 0.0,
    "decay": 1.0,
    "old": 1.0,
    "standing": 0.0,
    **{f"power{kind}": 1.0 for kind in KINDS},
    **{f"drift{kind}": 0.0 for kind in KINDS},
    **{f"lag{kind}": 0.0 for kind in KINDS},
}
"""The coefficients of a row that is up to date."""

TINY = 1e-30
"""Far below any sum; it makes 0 / 0 one."""


def columns(
    counts: bool, kinds: Sequence[str], decays: bool, averages: bool
) -> list[str]:
    """Returns the names of the coefficients to keep.

    Args:
        counts: Whether to count the updates, because not every call is one.
        kinds: The kinds of sums over drifts; none if rows stand still.
        decays: Whether weights decay.
        averages: Whether there is a moving average.
    """
    kept = ["steps"] if counts else []
    kept += [f"{name}{kind}" for kind in kinds for name in ("power", "drift")]
    kept += ["decay"] if decays else []
    kept += ["old", "standing"] if averages else []
    return kept + ([f"lag{kind}" for kind in kinds] if averages else [])


def drifts_by_kind(
    rate: Any, ratio: Any, growth: tuple[Any, Any] | None
) -> dict[str, tuple[Any, Any]]:
    """Returns the rates and ratios whose sums are to be kept, by kind.

    Args:
        rate: The rate of the drift in an update, without the growth of its floor.
        ratio: The factor from one skipped step to the next.
        growth: The size of the floor in the update, and the factor by which it grows
            from one skipped step to the next; `None` if it does not.
    """
    drifts = {"": (rate, ratio)}
    if growth is not None:
        size, factor = growth
        grown = ratio * factor
        # Its powers would grow without bound, as with β₁ > β₂ in Adam.
        grown = ops.where(grown < 1, grown, ops.ones_like(grown))
        drifts[OVER_GROWTH] = rate / size, ratio / factor
        drifts[BY_GROWTH] = rate * size, grown
    return drifts


def advanced(
    table: dict[str, Any],
    update: Any,
    drifts: Mapping[str, tuple[Any, Any]] | None = None,
    decay: Any = 0.0,
    momentum: Any = 0.0,
) -> dict[str, Any]:
    """Returns the coefficients after one more call of `apply`.

    Args:
        table: The columns to keep, by name; float tensors of one shape.
        update: Whether the call is an update: `True`, or a bool scalar tensor; with
            gradient accumulation not every call is.
        drifts: The rate of the drift in this update and the factor from one skipped
            step to the next, by kind.
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
        new.update(
            {n: c * kept for n, c in table.items() if n[:5] in ("decay", "drift")}
        )
    for kind, (rate, ratio) in (drifts or {}).items():
        power = new[f"power{kind}"] = table[f"power{kind}"] * ratio
        new[f"drift{kind}"] = new[f"drift{kind}"] + rate * power
    if update is not True:
        new = {n: ops.where(update, column, table[n]) for n, column in new.items()}
    if "old" in table:
        row = new.get("decay", 1)
        new["old"] = momentum * table["old"]
        new["standing"] = momentum * table["standing"] + (1 - momentum) * row
        for kind in drifts or {}:
            lag = momentum * table[f"lag{kind}"]
            new[f"lag{kind}"] = lag + (1 - momentum) * new[f"drift{kind}"]
    return new


def caught_up(
    parameter: Any, average: Any, direction: Any, coefficients: dict[str, Any]
) -> tuple[Any, Any]:
    """Returns rows and their moving averages after the steps that they skipped.

    Args:
        parameter: Tensor of shape `(n, ...)`, the rows when last up to date.
        average: Their moving averages then, or `None`.
        direction: The direction of the drift, a tensor of the same shape or a
            `Quotient`, or `None`.
        coefficients: One number a row, tensors of shape `(n,)`, by name.

    Returns:
        `(parameter, average)`.
    """
    shape = (-1,) + (1,) * (len(parameter.shape) - 1)
    per_row = {name: ops.reshape(c, shape) for name, c in coefficients.items()}
    if average is not None:
        average = per_row["old"] * average + per_row["standing"] * parameter
        if direction is not None:
            average = average - _way("lag", direction, per_row)
    if "decay" in per_row:
        parameter = per_row["decay"] * parameter
    if direction is not None:
        parameter = parameter - _way("drift", direction, per_row)
    return parameter, average


def _way(name: str, direction: Any, coefficients: Mapping[str, Any]) -> Any:
    """Returns how far rows have moved along their direction."""
    total = coefficients[name]
    if not isinstance(direction, Quotient):
        return total * direction
    if name + OVER_GROWTH not in coefficients:
        return total * direction.at(1.0)
    over, by = (coefficients[name + kind] + TINY for kind in (OVER_GROWTH, BY_GROWTH))
    harmonic = (total + TINY) / over
    # Where late steps are long for their growth, one of them may be all of the mean.
    spread = ops.clip(by / (total + TINY) - harmonic, 0.0, harmonic)
    return total * direction.at(harmonic, spread)


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
