"""The display of a study that is running."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from keras_adaptive.errors import needs_extra
from keras_adaptive.study.ledger.record import Record
from keras_adaptive.terminal import say

with needs_extra("study"):
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )


class Display:
    """Shows a line for every run that ends, and below them a bar for the study.

    Args:
        progress: The bar.
    """

    def __init__(self, progress: Progress) -> None:
        """Adds a line for the study to the bar."""
        self._progress = progress
        self._bar = progress.add_task("", total=None)
        self._counts: Counter[str] = Counter()
        self._best: dict[str, Record] = {}

    def ended(self, record: Record, done: int, total: int) -> None:
        """Shows how a run ended.

        Args:
            record: The run.
            done: The number of runs done, this one included.
            total: The number of runs in all, as far as it is known.
        """
        self._counts[record.status] += 1
        best = self._best.get(record.workload)
        if record.status == "finished" and (not best or record.score > best.score):
            self._best[record.workload] = record
        say(
            self._progress.console,
            f"{done:>3}/{total} {outcome(record)}",
            soft_wrap=True,
        )

    def show(self, done: int, total: int, done_steps: int, total_steps: int) -> None:
        """Shows how far the study has come.

        Args:
            done: The number of runs done.
            total: The number of runs in all, as far as it is known.
            done_steps: Training steps of the runs done.
            total_steps: Training steps of all runs.
        """
        lost = "".join(
            f", {self._counts[how]} {how}"
            for how in ("diverged", "failed", "pruned")
            if self._counts[how]
        )
        best = "".join(
            f", best so far on {name}: {record.contender} "
            f"{record.numbers[f'final_val_{record.metric}']:.4g}"
            for name, record in self._best.items()
        )
        self._progress.update(
            self._bar,
            description=f"{done}/{total} runs{lost}{best}",
            completed=done_steps,
            total=total_steps,
        )


def outcome(record: Record) -> str:
    """Returns how a run ended, in words."""
    who = f"{record.workload}, {record.contender}, {record.setting}"
    who += f", seed {record.seed}"
    if record.status != "finished":
        return f"{who}: {record.status}, {record.reason}"
    if record.phase == "time":
        return f"{who}: {1e3 * record.numbers['step_seconds']:.3g} ms a step by fit"
    part = "final_val" if record.phase == "tune" else "test"
    value = record.numbers[f"{part}_{record.metric}"]
    shown = {"tune": "validation", "compare": "test"}[record.phase]
    return f"{who}: {shown} {record.metric} {value:.4g}"


@contextmanager
def display(console: Console) -> Iterator[Display]:
    """Shows the progress of a study until the block ends.

    Args:
        console: The terminal.

    Yields:
        The display.
    """
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("elapsed,"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        transient=True,
    ) as progress:
        yield Display(progress)
