"""Chooses how the runs of a study are made: by compiled programs, or by `fit`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, get_args

from keras_adaptive.errors import InputError, needs_extra
from keras_adaptive.study.execution.compiled.executor import (
    NO_JAX,
    CompiledFirst,
    compiled_runs,
    has_jax,
)
from keras_adaptive.study.execution.executors import Executor
from keras_adaptive.study.execution.planning import Plan
from keras_adaptive.study.execution.this_machine import this_machine
from keras_adaptive.study.ledger.record import Record
from keras_adaptive.terminal import say

with needs_extra("study"):
    from rich.console import Console

Runner = Literal["auto", "compiled", "fit"]

PRUNES = "its tuner prunes runs"

WORTHWHILE = 24
"""Fewer runs end sooner by `fit` than processes with JAX start and compile."""


def check_runner(runner: str) -> None:
    """Checks the name of a runner.

    Raises:
        InputError: If there is no such runner.
    """
    if runner not in get_args(Runner):
        raise InputError(
            f"There is no runner {runner!r}. Expected 'compiled' for programs that JAX "
            "compiles, 'fit', or 'auto' for what is faster."
        )


@contextmanager
def chosen_runner(
    runner: Runner,
    plans: Sequence[Plan],
    records: Mapping[str, Record],
    executor: Executor,
    console: Console,
) -> Iterator[tuple[Sequence[Plan], Executor]]:
    """Decides for each plan how its runs are made, and keeps what is needed for it.

    Args:
        runner: `"compiled"` compiles whatever can be compiled. `"auto"` does so if the
            study has enough runs and none of them was made by `fit` before.
        plans: The plans, for `fit`.
        records: The runs that are done.
        executor: Makes the runs by `fit`.
        console: Where a line says why runs cannot be compiled.

    Yields:
        The plans with their runners, and an executor for all their runs.
    """
    if runner == "fit" or (runner == "auto" and not _is_worthwhile(plans, records)):
        yield plans, executor
        return
    if reason := _why_none(plans):
        yield [plan.by("fit", reason) for plan in plans], executor
        if runner == "compiled":
            say(console, f"All runs are made by fit: {reason}.")
        return
    data = {plan.prepared.workload.name: plan.prepared.data for plan in plans}
    compiled = [plan.by("compiled") for plan in plans]
    site = getattr(executor, "site", this_machine)
    with site(data) as place, compiled_runs(data, place) as runs:
        reasons = runs.reasons([plan.samples() for plan in compiled])
        for plan, reason in zip(plans, reasons, strict=True):
            if reason:
                where = f"{plan.contender.label} on {plan.prepared.workload.name}"
                say(console, f"{where} runs by fit: {reason}.")
        chosen = [
            plan.by("fit", reason) if reason else fast
            for plan, fast, reason in zip(plans, compiled, reasons, strict=True)
        ]
        yield chosen, CompiledFirst(runs, executor)


def _why_none(plans: Sequence[Plan]) -> str:
    """Returns why no run can be compiled; empty if some may be."""
    if any(plan.protocol.tuning.prunes for plan in plans):
        return PRUNES
    return "" if has_jax() else NO_JAX


def _is_worthwhile(plans: Sequence[Plan], records: Mapping[str, Record]) -> bool:
    progress = [plan.progress(records) for plan in plans]
    total = sum(each.total for each in progress)
    return total >= WORTHWHILE and not any(each.done for each in progress)
