"""The schedule of a study: it makes the missing runs and keeps count of all."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from rich.console import Console

from keras_adaptive.study.execution.executors import Executor
from keras_adaptive.study.execution.planning import Plan, TuningProgress
from keras_adaptive.study.execution.progress import Display, display
from keras_adaptive.study.execution.trial import Trial
from keras_adaptive.study.ledger.mlflow_ledger import Ledger
from keras_adaptive.study.ledger.record import Record
from keras_adaptive.terminal import say


class Schedule:
    """The runs of a study, done and missing.

    Args:
        plans: One plan for each workload and contender.
        ledger: The ledger, with the study's run open.
    """

    def __init__(self, plans: Sequence[Plan], ledger: Ledger) -> None:
        """Finds out which runs are done."""
        self.plans = plans
        self._ledger = ledger
        self.progress: list[TuningProgress] = []
        self._update()

    def _update(self) -> None:
        with self._ledger.waiting():
            self.progress = [plan.progress(self._ledger) for plan in self.plans]

    @property
    def done(self) -> int:
        """The number of runs that are done."""
        return len(self.records)

    @property
    def total(self) -> int:
        """The number of runs in all, as far as it is known."""
        return sum(each.total for each in self.progress)

    @property
    def records(self) -> list[Record]:
        """The runs that are done, plan by plan, tuning first."""
        return list(itertools.chain.from_iterable(each.done for each in self.progress))

    @property
    def failed(self) -> list[Record]:
        """The runs that failed."""
        return [record for record in self.records if record.status == "failed"]

    def forget_failed(self) -> None:
        """Deletes the runs that failed, so that they are made again."""
        for record in self.failed:
            self._ledger.forget(record.key)
        self._update()

    def finish(self, executor: Executor, console: Console) -> None:
        """Makes all runs that are missing.

        Args:
            executor: Makes the runs.
            console: Shows the progress.
        """
        if self.done:
            say(console, f"{self.done} runs are done already.")
        if self.done == self.total:
            return
        data = {each.prepared.workload.name: each.prepared.data for each in self.plans}
        missing = [trial for each in self.progress for trial in each.missing]
        submitted: set[str] = set()
        with executor.start(data) as pool, display(console) as shown:
            for trial in _new(side_by_side(missing), submitted):
                pool.submit(trial)
            self._show(shown)
            for record in pool.results():
                self._ledger.write(record)
                place = self._place(record)
                self.progress[place] = self.plans[place].progress(self._ledger)
                for trial in _new(self.progress[place].missing, submitted):
                    pool.submit(trial)
                shown.ended(record, self.done, self.total)
                self._show(shown)

    def _place(self, record: Record) -> int:
        """Returns the index of the plan that a run belongs to."""
        return next(
            place
            for place, plan in enumerate(self.plans)
            if (plan.prepared.workload.name, plan.contender.label)
            == (record.workload, record.contender)
        )

    def _show(self, shown: Display) -> None:
        steps = [plan.prepared.steps for plan in self.plans]
        counted = list(zip(self.progress, steps, strict=True))
        shown.show(
            self.done,
            self.total,
            done_steps=sum(len(each.done) * count for each, count in counted),
            total_steps=sum(each.total * count for each, count in counted),
        )


def _new(trials: Sequence[Trial], submitted: set[str]) -> list[Trial]:
    """Returns the trials that were not submitted yet, and notes them as submitted."""
    new = list(
        {each.key: each for each in trials if each.key not in submitted}.values()
    )
    submitted.update(each.key for each in new)
    return new


def side_by_side(trials: Sequence[Trial]) -> list[Trial]:
    """Sorts trials so that those that are compared run one after the other.

    When the machine slows down, it then slows down all contenders.

    Args:
        trials: The trials, workload by workload.
    """
    workloads = list(dict.fromkeys(trial.workload.name for trial in trials))
    return sorted(
        trials, key=lambda trial: (workloads.index(trial.workload.name), trial.seed)
    )
