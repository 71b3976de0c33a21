"""A study: contenders on workloads by a protocol."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from keras_adaptive.errors import InputError, named, needs_extra
from keras_adaptive.study.analysis.all_promises import Judge, judge_all
from keras_adaptive.study.analysis.run_table import RunTable
from keras_adaptive.study.design.contender import Contender
from keras_adaptive.study.design.protocol import Protocol
from keras_adaptive.study.design.setting import Setting, column_of
from keras_adaptive.study.design.workload import Workload
from keras_adaptive.study.execution.cluster.futures_executor import as_executor
from keras_adaptive.study.execution.executors import Executor
from keras_adaptive.study.execution.planning import Plan
from keras_adaptive.study.execution.prepared_workload import PreparedWorkload
from keras_adaptive.study.execution.runner import (
    Runner,
    check_runner,
    chosen_runner,
)
from keras_adaptive.study.execution.schedule import Schedule
from keras_adaptive.study.ledger.autologging import autologging_off
from keras_adaptive.study.ledger.connection import quiet_mlflow
from keras_adaptive.study.ledger.fingerprint import described
from keras_adaptive.study.ledger.mlflow_ledger import Ledger
from keras_adaptive.study.ledger.reach.graph import describe
from keras_adaptive.study.ledger.record import NONE_WORKED, Record
from keras_adaptive.study.results import Results
from keras_adaptive.terminal import say

with needs_extra("study"):
    import pandas as pd
    from rich.console import Console


@dataclass(frozen=True)
class Study:
    """A fair comparison of optimizers.

    Args:
        name: Name of the study and of its MLflow experiment.
        workloads: The workloads.
        contenders: The contenders, or the names of their optimizers.
        protocol: How the contenders are tuned and judged.
        spool: Folder for the runs that MLflow does not take, until it does.
        judge: Judges the promises that the study is about, from its runs. The default
            judges every promise for which there are runs.

    Raises:
        InputError: If there are no workloads or contenders, if two of them have one
            name, or if the reference does not take part.
    """

    name: str
    workloads: Sequence[Workload]
    contenders: Sequence[Contender | str]
    protocol: Protocol = field(default_factory=Protocol)
    spool: Path = Path("mlflow-spool")
    judge: Judge = judge_all

    def __post_init__(self) -> None:
        """Completes the contenders and checks the study."""
        named("A study", self.name)
        contenders = _with_reference(self.contenders, self.protocol.reference)
        _distinct("workloads", [each.name for each in self.workloads])
        _distinct("contenders", [each.label for each in contenders])
        target = self.protocol.target
        unknown = set(target if isinstance(target, Mapping) else ()) - {
            each.name for each in self.workloads
        }
        if unknown:
            raise InputError(
                f"The protocol has a target for {unknown.pop()!r}, which is none of "
                "the workloads."
            )
        for contender in contenders:
            for setting in self.protocol.tuning.span(
                contender, self.protocol.tuning_trials
            ):
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

    @property
    def identity(self) -> str:
        """A short digest of what is compared and how, for the name of a folder.

        It depends on the data with their target, on the loss, the metric and the
        budget, on the contenders, and on the protocol. It does not depend on the source
        of the model, the backend or the versions of libraries.
        """
        workloads = [
            [
                each.name,
                each.load().digest,
                describe(each.loss),
                each.metric_name,
                each.batch_size,
                repr(each.budget or self.protocol.budget),
            ]
            for each in self.workloads
        ]
        content = [workloads, self._plan(), repr(self._given_targets())]
        return hashlib.sha256(repr(content).encode()).hexdigest()[:8]

    @autologging_off()
    def run(
        self,
        executor: Executor | futures.Executor | None = None,
        console: Console | None = None,
        retry_failed: bool = False,
        runner: Runner = "auto",
    ) -> Results:
        """Makes the runs that are not in the ledger yet.

        Runs that are in the ledger are not made again, so an interrupted study resumes.
        A study with another contender, seed or learning rate makes the new runs only.
        A run with another model, other data or other software versions is a new run.

        Args:
            executor: Makes the runs: `Processes(n)`, `DaskExecutor(client)` or an
                executor of `concurrent.futures`; `None` for this process. Compiled
                runs are made where the executor is, or else in processes of their own.
            console: Shows the progress; `None` for the terminal.
            retry_failed: Whether runs that failed before are made again.
            runner: `"compiled"` makes many runs as one program of JAX, in processes of
                its own, whatever the backend of this one. What cannot be compiled runs
                by `fit`, and a line says why. `"fit"` compiles nothing. `"auto"`
                compiles if the study has enough runs and none was made by `fit`
                before.

        Returns:
            The results.

        Raises:
            InputError: Before any training, if a model, data, a budget or MLflow's
                store cannot be used, or if there is no such runner.
            ClusterError: If a cluster stops making runs, with a note on how to go on.
            KeyboardInterrupt: After an interrupt, with a note on how to resume.
        """
        console = console or Console()
        check_runner(runner)
        by_fit = as_executor(executor)
        budget = self.protocol.budget
        prepared = [PreparedWorkload.prepare(each, budget) for each in self.workloads]
        plans = [
            Plan(each, contender, self.protocol)
            for each in prepared
            for contender in _contenders(self.contenders)
        ]
        with quiet_mlflow():
            tell = partial(say, console)
            ledger = Ledger(self.name, self.spool, tell)
            names = [each.name for each in self.workloads]
            with ledger.open(self.title, self._description(), names):
                _tell_of_other_data(prepared, ledger, console)
                with chosen_runner(runner, plans, ledger, by_fit, console) as (
                    chosen,
                    all_runs,
                ):
                    schedule = Schedule(chosen, ledger)
                    if retry_failed:
                        schedule.forget_failed()
                    try:
                        schedule.finish(all_runs, console)
                    except KeyboardInterrupt:
                        say(
                            console,
                            f"Interrupted: {schedule.done} of {schedule.total} runs "
                            "are kept. Run the same study again to go on from there.",
                        )
                        raise
            self._tell_of_losses(schedule, ledger, console)
        table = RunTable(
            records=schedule.records,
            reference=self.reference,
            tuned=_tuned(schedule),
            given_targets=self._given_targets(),
            tuner=str(self.protocol.tuner or ""),
        )
        return Results(
            table, ledger.run_id, self.title, self.judge, ledger.usable, tell
        )

    def _description(self) -> dict[str, str]:
        """Returns what is asked for, as the tags of the study's run."""
        return {**self._plan(), **described()}

    def _plan(self) -> dict[str, str]:
        """Returns the workloads, the contenders and the protocol in words."""
        protocol = self.protocol
        return {
            "workloads": ", ".join(each.name for each in self.workloads),
            "contenders": ", ".join(
                each.label for each in _contenders(self.contenders)
            ),
            "reference": self.reference,
            "tuning_trials": str(protocol.tuning_trials),
            **_tuning_in_words(protocol),
            "tuning_seeds": ", ".join(map(str, protocol.seeds_to_tune)),
            "seeds": ", ".join(map(str, protocol.evaluation_seeds)),
        }

    def _tell_of_losses(
        self, schedule: Schedule, ledger: Ledger, console: Console
    ) -> None:
        """Says which runs failed, and which could not be delivered."""
        if failed := schedule.failed:
            say(
                console,
                f"{len(failed)} of {schedule.total} runs failed. Run the study with "
                "retry_failed=True (--retry-failed) to make them again.",
            )
        if ledger.spooled:
            say(
                console,
                f"{len(ledger.spooled)} runs wait in {self.spool}, since MLflow did "
                "not take them. They are delivered when the study is run again.",
            )

    def _given_targets(self) -> Mapping[str, float]:
        target = self.protocol.target
        if target is None or isinstance(target, Mapping):
            return target or {}
        return dict.fromkeys((each.name for each in self.workloads), target)


def _tuning_in_words(protocol: Protocol) -> dict[str, str]:
    """Returns how the settings are chosen: by a grid that widens, or by a tuner."""
    if protocol.tuner is None:
        return {"widening_trials": str(protocol.widening_trials)}
    digest = describe(protocol.tuner, "The tuner")[:8]
    return {"tuner": f"{protocol.tuner} ({digest})"}


def _contenders(contenders: Sequence[Contender | str]) -> list[Contender]:
    return [
        each if isinstance(each, Contender) else Contender(each) for each in contenders
    ]


def _with_reference(
    given: Sequence[Contender | str], reference: Contender | str
) -> list[Contender]:
    """Returns the contenders of a study, the reference among them."""
    contenders = _contenders(given)
    if isinstance(reference, Contender):
        return contenders if reference in contenders else [reference, *contenders]
    if reference not in (each.label for each in contenders):
        raise InputError(
            f"The reference {reference!r} is none of the contenders: "
            f"{', '.join(each.label for each in contenders)}."
        )
    return contenders


def _distinct(what: str, names: Sequence[str]) -> None:
    if not names:
        raise InputError(f"The study has no {what}. Expected at least one.")
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"Two {what} of the study are called {name!r}. Give them different "
                "names; a contender's is its label."
            )


def _tell_of_other_data(
    prepared: Sequence[PreparedWorkload], ledger: Ledger, console: Console
) -> None:
    """Says which runs of before are not used, because the data have changed."""
    for each in prepared:
        name = each.workload.name
        if left := ledger.of_other_data(name, each.data.digest):
            say(
                console,
                f"The data of {name} have changed: {left} runs of before are not used.",
            )


def _tuned(schedule: Schedule) -> pd.DataFrame:
    """Returns a row for each workload and contender, with the chosen setting."""
    return pd.DataFrame(
        [
            {
                "workload": plan.prepared.workload.name,
                "contender": plan.contender.label,
                "trials": progress.trials,
                **_tuning_costs(progress.done),
                **_setting_row(progress.chosen),
            }
            for plan, progress in zip(schedule.plans, schedule.progress, strict=True)
        ]
    )


def _tuning_costs(done: Sequence[Record]) -> dict[str, int]:
    """Returns what tuning took: training steps, and runs that were pruned."""
    tuning = [record for record in done if record.phase == "tune"]
    return {
        "tuning_steps": sum(record.steps for record in tuning),
        "pruned_runs": sum(record.status == "pruned" for record in tuning),
    }


def _setting_row(chosen: Setting | None) -> dict[str, Any]:
    if chosen is None:
        return {"setting": NONE_WORKED, "learning_rate": math.nan}
    extra = chosen.extra_hyperparameter
    return {
        "setting": str(chosen).removeprefix("learning rate "),
        "learning_rate": chosen.learning_rate,
        **({column_of(extra[0]): extra[1]} if extra else {}),
    }
