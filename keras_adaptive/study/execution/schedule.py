"""The schedule of a study: it makes the missing runs and keeps count of all."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

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
        self._update()

    def _update(self) -> None:
        with self._ledger.waiting():
            self._counted = [_CountedPlan(plan, self._ledger) for plan in self.plans]

    @property
    def progress(self) -> list[TuningProgress]:
        """The progress of each plan."""
        return [each.progress for each in self._counted]

    @property
    def done(self) -> int:
        """The number of runs that are done."""
        return sum(each.done for each in self._counted)

    @property
    def total(self) -> int:
        """The number of runs in all, as far as it is known."""
        return sum(each.total for each in self._counted)

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
        plans = {each.whose: each for each in self._counted}
        missing = [trial for each in self.progress for trial in each.missing]
        with executor.start(data) as pool, display(console) as shown:
            for trial in _distinct(side_by_side(missing)):
                pool.submit(trial)
            self._show(shown)
            for record in pool.results():
                self._ledger.write(record)
                plan = plans[record.workload, record.contender]
                for trial in _distinct(plan.ended(record.key)):
                    pool.submit(trial)
                shown.ended(record, self.done, self.total)
                self._show(shown)

    def _show(self, shown: Display) -> None:
        shown.show(
            self.done,
            self.total,
            done_steps=sum(each.done * each.steps for each in self._counted),
            total_steps=sum(each.total * each.steps for each in self._counted),
        )


class _CountedPlan:
    """A plan that counts its runs as they end.

    A plan has new runs only when all that it could have made are done. Only then does
    it look at all of its runs again.

    Args:
        plan: The plan.
        records: The runs that are done, by their keys.
    """

    def __init__(self, plan: Plan, records: Mapping[str, Record]) -> None:
        self._plan = plan
        self._records = records
        self.whose = plan.prepared.workload.name, plan.contender.label
        self.steps = plan.prepared.steps
        self._look()

    def _look(self) -> None:
        self.progress = self._plan.progress(self._records)
        self.done = len(self.progress.done)
        self.total = self.progress.total
        self._missing = Counter(trial.key for trial in self.progress.missing)

    def ended(self, key: str) -> Sequence[Trial]:
        """Counts a run that has ended, and returns those that can be made since."""
        self.done += self._missing.pop(key, 0)
        if self._missing:
            return []
        self._look()
        return self.progress.missing


def _distinct(trials: Iterable[Trial]) -> list[Trial]:
    """Returns one trial for each key."""
    return list({each.key: each for each in trials}.values())


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
