"""A study: contenders on workloads by a protocol."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keras_adaptive.errors import StudyError, needs_extra
from keras_adaptive.study.design.contender import Contender
from keras_adaptive.study.design.protocol import Protocol
from keras_adaptive.study.design.workload import Workload
from keras_adaptive.study.execution.executors import Executor, InProcess
from keras_adaptive.study.execution.planning import NONE_WORKED, Course, Plan
from keras_adaptive.study.execution.prepared_workload import Task
from keras_adaptive.study.execution.progress import Display, display
from keras_adaptive.study.execution.training import Trial
from keras_adaptive.study.ledger.fingerprint import engine
from keras_adaptive.study.ledger.mlflow_ledger import Ledger, quiet_mlflow
from keras_adaptive.study.ledger.record import Record
from keras_adaptive.study.results import Results

with needs_extra("study"):
    import pandas as pd
    from rich.console import Console


@dataclass(frozen=True)
class Study:
    """A fair comparison of optimizers.

    Args:
        name: Its name, and that of its MLflow experiment.
        workloads: What is learned.
        contenders: Who is compared: contenders, or what a `Contender` is made from.
        protocol: How they are tuned and judged.
        spool: Folder for runs that MLflow does not take, until it does.

    Raises:
        StudyError: If two workloads or two contenders have one name, if there are
            none, or if the reference does not take part.
    """

    name: str
    workloads: Sequence[Workload]
    contenders: Sequence[Contender | str]
    protocol: Protocol = field(default_factory=Protocol)
    spool: Path = Path("mlflow-spool")

    def __post_init__(self) -> None:
        contenders = [
            each if isinstance(each, Contender) else Contender(each)
            for each in self.contenders
        ]
        reference = self.protocol.reference
        if isinstance(reference, Contender):
            if reference not in contenders:
                contenders.insert(0, reference)
        elif reference not in (each.label for each in contenders):
            raise StudyError(
                f"The reference {reference!r} is none of the contenders: "
                f"{', '.join(each.label for each in contenders)}."
            )
        _distinct("workloads", [each.name for each in self.workloads])
        _distinct("contenders", [each.label for each in contenders])
        target = self.protocol.target
        unknown = set(target if isinstance(target, Mapping) else ()) - {
            each.name for each in self.workloads
        }
        if unknown:
            raise StudyError(
                f"The protocol has a target for {unknown.pop()!r}, which is none of "
                "the workloads."
            )
        for contender in contenders:
            for setting in contender.grid(self.protocol.tuning_trials):
                contender.make(setting)
        object.__setattr__(self, "workloads", tuple(self.workloads))
        object.__setattr__(self, "contenders", tuple(contenders))

    @property
    def reference(self) -> str:
        """Label of the contender that the others are compared with."""
        reference = self.protocol.reference
        return reference.label if isinstance(reference, Contender) else reference

    @property
    def title(self) -> str:
        """Name of the study's run in MLflow."""
        return f"{self.name} on {', '.join(each.name for each in self.workloads)}"

    def run(
        self,
        executor: Executor | None = None,
        console: Console | None = None,
        retry_failed: bool = False,
    ) -> Results:
        """Makes the runs that are not in the ledger yet.

        What is there is taken from it: a study that was interrupted goes on, and one
        that has got another contender, seed or learning rate makes the new runs only.
        Runs of another model, other data or another version of the software are
        other runs.

        Args:
            executor: Where the runs are made; `None` for this process.
            console: Where the progress is shown; `None` for the terminal.
            retry_failed: Whether runs that failed before are made again.

        Returns:
            The results.

        Raises:
            StudyError: Before any training, if a model, data, a budget or MLflow's
                store cannot be used.
            KeyboardInterrupt: After an interrupt, once it is said how to go on.
        """
        console = console or Console()
        tasks = [Task.prepare(each, self.protocol.budget) for each in self.workloads]
        with quiet_mlflow():
            ledger = Ledger(self.name, self.spool)
            with ledger.open(self.title, self._description()):
                plans = [
                    Plan(task, contender, self.protocol, ledger.get)
                    for task in tasks
                    for contender in self.contenders
                ]
                for task in tasks:
                    name = task.workload.name
                    if left := ledger.of_other_data(name, task.data.digest):
                        console.print(
                            f"The data of {name} have changed: {left} runs of before "
                            "are not used.",
                            markup=False,
                        )
                work = _Work(plans, ledger)
                if retry_failed:
                    work.forget_failed()
                try:
                    work.finish(executor or InProcess(), console)
                except KeyboardInterrupt:
                    console.print(
                        f"Interrupted: {work.done} of {work.total} runs are kept. Run "
                        "the same study again to go on from there."
                    )
                    raise
            if failed := work.failed():
                console.print(
                    f"{len(failed)} of {work.total} runs failed. Run the study with "
                    "retry_failed=True (--retry-failed) to make them again."
                )
            if ledger.spooled:
                console.print(
                    f"MLflow could not be reached: {len(ledger.spooled)} runs wait in "
                    f"{self.spool} and are delivered when the study is run again."
                )
        return self._results(plans, work, ledger)

    def _description(self) -> dict[str, str]:
        """Returns what is asked for, as the tags of the study's run."""
        protocol = self.protocol
        return {
            "workloads": ", ".join(each.name for each in self.workloads),
            "contenders": ", ".join(each.label for each in self.contenders),
            "reference": self.reference,
            "tuning_trials": str(protocol.tuning_trials),
            "widening_trials": str(protocol.widening_trials),
            "tuning_seeds": ", ".join(map(str, protocol.seeds_to_tune)),
            "seeds": ", ".join(map(str, protocol.evaluation_seeds)),
            **engine(),
        }

    def _results(self, plans: list[Plan], work: _Work, ledger: Ledger) -> Results:
        rows = []
        for plan, course in zip(plans, work.courses, strict=True):
            row = {
                "workload": plan.task.workload.name,
                "contender": plan.contender.label,
                "trials": course.trials,
                "setting": NONE_WORKED,
                "learning_rate": math.nan,
            }
            if course.chosen:
                row["setting"] = str(course.chosen).removeprefix("learning rate ")
                row["learning_rate"] = course.chosen.learning_rate
                row |= [course.chosen.second] if course.chosen.second else {}
            rows.append(row)
        target = self.protocol.target
        if not isinstance(target, Mapping):
            names = [each.name for each in self.workloads]
            target = {} if target is None else dict.fromkeys(names, target)
        return Results(
            records=[record for course in work.courses for record in course.done],
            reference=self.reference,
            tuned=pd.DataFrame(rows),
            given_targets=target,
            run_id=ledger.run_id,
            title=self.title,
        )


class _Work:
    """The runs of a study on their way.

    Args:
        plans: One for each workload and contender.
        ledger: Where they are kept, with the study's run open.
    """

    def __init__(self, plans: list[Plan], ledger: Ledger):
        self._plans = plans
        self._ledger = ledger
        self.courses = [plan.course() for plan in plans]

    @property
    def done(self) -> int:
        """How many runs are done."""
        return sum(len(course.done) for course in self.courses)

    @property
    def total(self) -> int:
        """How many runs there will be, as far as is known."""
        return sum(map(_runs_of, self.courses))

    def failed(self) -> list[Record]:
        """Returns the runs that failed."""
        done = itertools.chain.from_iterable(course.done for course in self.courses)
        return [record for record in done if record.status == "failed"]

    def forget_failed(self) -> None:
        """Deletes the runs that failed."""
        for record in self.failed():
            self._ledger.forget(record.key)
        self.courses = [plan.course() for plan in self._plans]

    def finish(self, executor: Executor, console: Console) -> None:
        """Makes all runs that are missing."""
        if self.done:
            console.print(f"{self.done} runs are done already.")
        if self.done == self.total:
            return
        data = {plan.task.workload.name: plan.task.data for plan in self._plans}
        place_of = {
            (plan.task.workload.name, plan.contender.label): place
            for place, plan in enumerate(self._plans)
        }
        submitted: set[str] = set()
        with executor.start(data) as pool, display(console) as shown:

            def submit(trials: list[Trial]) -> None:
                for trial in trials:
                    if trial.key not in submitted:
                        submitted.add(trial.key)
                        pool.submit(trial)

            missing = [trial for course in self.courses for trial in course.missing]
            submit(side_by_side(missing))
            self._show(shown)
            for record in pool.results():
                self._ledger.write(record)
                place = place_of[record.workload, record.contender]
                self.courses[place] = self._plans[place].course()
                submit(self.courses[place].missing)
                shown.ended(record, self.done, self.total)
                self._show(shown)

    def _show(self, shown: Display) -> None:
        done_steps = total_steps = 0
        for plan, course in zip(self._plans, self.courses, strict=True):
            done_steps += len(course.done) * plan.task.steps
            total_steps += _runs_of(course) * plan.task.steps
        shown.show(self.done, self.total, done_steps, total_steps)


def _runs_of(course: Course) -> int:
    return len(course.done) + len(course.missing) + course.ahead


def side_by_side(trials: Sequence[Trial]) -> list[Trial]:
    """Sorts trials so that those which are compared run one after the other.

    A machine that slows down then slows down all contenders.

    Args:
        trials: The trials, workload by workload.
    """
    workloads = list(dict.fromkeys(trial.workload.name for trial in trials))
    return sorted(
        trials, key=lambda trial: (workloads.index(trial.workload.name), trial.seed)
    )


def _distinct(what: str, names: Sequence[str]) -> None:
    if not names:
        raise StudyError(f"The study has no {what}. Expected at least one.")
    for name in names:
        if names.count(name) > 1:
            raise StudyError(
                f"Two {what} of the study are called {name!r}. Give them different "
                "names; a contender's is its label."
            )
