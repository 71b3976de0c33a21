"""What the runs of a study say, as tidy tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from keras_adaptive.commands.options import output_folder
from keras_adaptive.errors import StudyError, needs_extra
from keras_adaptive.study.analysis.all_promises import judge_all
from keras_adaptive.study.analysis.recommendation import Recommendation, recommend
from keras_adaptive.study.analysis.stats import best, target, to_target
from keras_adaptive.study.analysis.verdicts import Verdict
from keras_adaptive.study.ledger.mlflow_ledger import attach
from keras_adaptive.study.ledger.record import Record
from keras_adaptive.study.reporting.figure_set import Picture, draw_all
from keras_adaptive.study.reporting.html_report import this_command, to_html

with needs_extra("study"):
    import pandas as pd

TARGET_SHARE = 0.75
"""The share of the reference's budget within which it sets the target."""

CURVE_COLUMNS = (
    *("workload", "contender", "phase", "learning_rate", "seed", "key"),
    *("step", "seconds", "measure", "value"),
)

TO_TARGET = ("steps_to_target", "epochs_to_target", "seconds_to_target")


@dataclass(frozen=True)
class Results:
    """The runs of a study, and what was asked of them.

    Args:
        records: The runs, tuning first, by workload and contender.
        reference: Label of the contender that the others are compared with.
        tuned: A row for each workload and contender: the setting that was chosen (NaN
            if none worked), and with how many trials.
        given_targets: The targets that the protocol names, by workload.
        run_id: MLflow's id of the study's run.
        title: What was studied, in words.
        judge: Judges the promises that the study is about.
    """

    records: Sequence[Record]
    reference: str
    tuned: pd.DataFrame
    given_targets: Mapping[str, float]
    run_id: str
    title: str
    judge: Callable[[Results], list[Verdict]] = judge_all

    @property
    def directions(self) -> dict[str, str]:
        """For each workload `"max"` if more of its metric is better, else `"min"`."""
        return {record.workload: record.direction for record in self.records}

    @property
    def metrics(self) -> dict[str, str]:
        """The name of each workload's metric."""
        return {record.workload: record.metric for record in self.records}

    @cached_property
    def targets(self) -> dict[str, float]:
        """The validation metric to reach on each workload; NaN if there is none.

        Unless the protocol names it, it is the median over seeds of the best that the
        tuned reference reached within three quarters of its steps, so that every run
        has a third more time than those that set the target (arXiv:2306.07179). A
        diverged run of the reference, or one that was not evaluated so early, counts
        as the worst.
        """
        bests: dict[str, list[float]] = {name: [] for name in self.metrics}
        for record in self.records:
            if (record.contender, record.phase) != (self.reference, "compare"):
                continue
            if record.status == "finished":
                bests[record.workload].append(_early_best(record))
            elif record.status == "diverged":
                bests[record.workload].append(worst(record.direction))
        return {name: _target(values) for name, values in bests.items()} | dict(
            self.given_targets
        )

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row a run.

        Whose run it is: `workload`, `contender`, `phase` (`"tune"` or `"compare"`),
        `learning_rate` and the second hyper-parameter by its name, `seed`, `key`.
        How it ended: `status` (`"finished"`, `"diverged"` or `"failed"`), `reason`.
        What it measured: `train_metric`, `validation_metric`, `test_metric`, each with
        `_loss` too, at the end of training; `<slice>_metric` on each slice;
        `best_validation_metric`; `initial_loss`, on the validation data before
        training; `steps_to_target`, `epochs_to_target` and `seconds_to_target`,
        infinite for a miss; `first_round_seconds` (with compilation) and
        `step_seconds`; `state_per_weight`, how many numbers the optimizer keeps for
        each weight. A diverged run has the worst value there is, a failed one NaN.
        """
        return pd.DataFrame(
            [_row(record, self.targets[record.workload]) for record in self.records]
        )

    @cached_property
    def curves(self) -> pd.DataFrame:
        """A row a measurement.

        Whose: `key`, `workload`, `contender`, `phase`, `learning_rate`, `seed`. When:
        `step` and `seconds` (of training, without evaluation). What: `measure`, one of
        `train_loss`, `train_metric`, `validation_loss`, `validation_metric`,
        `learning_rate` and `epoch`, and its `value`.
        """
        seconds = [
            each.setting.second[0] for each in self.records if each.setting.second
        ]
        rows = [row for record in self.records for row in _curve_rows(record)]
        return pd.DataFrame(rows, columns=[*CURVE_COLUMNS, *dict.fromkeys(seconds)])

    def judged(self, workload: str) -> pd.DataFrame:
        """Returns the runs of a workload with the seeds for judging."""
        runs = self.runs
        return runs[(runs["workload"] == workload) & (runs["phase"] == "compare")]

    def verdicts(self) -> list[Verdict]:
        """Judges all promises, on every workload and over all workloads.

        Returns:
            The verdicts on every contender but the reference: on convergence and
            generalization; on robustness, of those that were tuned; and on sparse
            data, if a workload has the slice `rare`. None on what cannot be compared
            because the reference has no such run. Only what the study is about, if it
            has its own `judge`.
        """
        return self._verdicts

    @cached_property
    def _verdicts(self) -> list[Verdict]:
        return self.judge(self)

    def recommendation(self, workload: str) -> Recommendation:
        """Says which contender to take on a workload, and how sure that is.

        Args:
            workload: Name of the workload.
        """
        return recommend(self, workload)

    @cached_property
    def pictures(self) -> list[Picture]:
        """All pictures, in the order in which they tell the story."""
        return draw_all(self)

    def plot(self, folder: str | Path) -> list[Path]:
        """Writes all pictures as PNG files, and attaches them to the study's run.

        Args:
            folder: Where; it is made if it is not there.

        Returns:
            The files.

        Raises:
            StudyError: If the folder cannot be made.
        """
        folder = output_folder(Path(folder))
        files = []
        for picture in self.pictures:
            file = folder / f"{picture.name}.png"
            file.write_bytes(picture.png)
            attach(self.run_id, file, "plots")
            files.append(file)
        return files

    def report(self, path: str | Path, command: str | None = None) -> Path:
        """Writes all that the study says as one HTML file, and attaches it to its run.

        Args:
            path: The file. Its folder is made if it is not there.
            command: What runs the study again, in a shell; `None` for how this process
                was started.

        Returns:
            The path.

        Raises:
            StudyError: If the folder cannot be made.
        """
        path = Path(path)
        output_folder(path.parent)
        path.write_text(to_html(self, command or this_command()), encoding="utf-8")
        attach(self.run_id, path)
        return path


def _early_best(record: Record) -> float:
    """Returns the best validation metric of the part of a run that sets a target."""
    until = TARGET_SHARE * int(record.params["steps"])
    measured = record.series(f"val_{record.metric}")
    early = [value for point, value in measured if point.step <= until]
    return float(best(early, record.direction))


def _target(bests: Sequence[float]) -> float:
    """Returns the target that the reference sets, NaN if it sets none."""
    try:
        return target(bests)
    except StudyError:
        return math.nan


def worst(direction: str) -> float:
    """Returns the value of a metric that loses against every other."""
    return -math.inf if direction == "max" else math.inf


def _whose(record: Record) -> dict[str, Any]:
    whose = {
        "workload": record.workload,
        "contender": record.contender,
        "phase": record.phase,
        "learning_rate": record.setting.learning_rate,
    }
    if record.setting.second:
        whose |= [record.setting.second]
    return whose | {"seed": record.seed, "key": record.key}


def _row(record: Record, aim: float) -> dict[str, Any]:
    ends = {"train": "final_train", "validation": "final_val", "test": "test"}
    numbers, metric = record.numbers, record.metric
    names = {
        **{f"{part}_metric": f"{end}_{metric}" for part, end in ends.items()},
        **{
            f"{name.rpartition('.')[2]}_metric": name
            for name in numbers
            if name.startswith(f"test_{metric}.")
        },
        "best_validation_metric": f"best_val_{metric}",
    }
    losses = {f"{part}_loss": f"{end}_loss" for part, end in ends.items()}
    missing = {"finished": math.nan, "failed": math.nan}
    no_metric = missing | {"diverged": worst(record.direction)}
    no_loss = missing | {"diverged": math.inf}
    return {
        **_whose(record),
        "status": record.status,
        "reason": record.reason,
        **{
            name: numbers.get(source, default[record.status])
            for sources, default in ((names, no_metric), (losses, no_loss))
            for name, source in sources.items()
        },
        "initial_loss": numbers.get("initial_val_loss", math.nan),
        **_to_target(record, aim),
        "first_round_seconds": numbers.get("first_round_seconds", math.nan),
        "step_seconds": numbers.get("step_seconds", math.nan),
        "state_per_weight": numbers.get("state_per_weight", math.nan),
    }


def _to_target(record: Record, aim: float) -> dict[str, float]:
    """Returns where a run first reached the target; a diverged one never did."""
    if record.status == "failed" or math.isnan(aim):
        return dict.fromkeys(TO_TARGET, math.nan)
    if record.status == "diverged":
        return dict.fromkeys(TO_TARGET, math.inf)
    measured = record.series(f"val_{record.metric}")
    values = [value for _, value in measured]
    places = (
        [point.step for point, _ in measured],
        [point.metrics["epoch"] for point, _ in measured],
        [point.seconds for point, _ in measured],
    )
    return {
        name: float(to_target(each, values, aim, record.direction))
        for name, each in zip(TO_TARGET, places, strict=True)
    }


def _curve_rows(record: Record) -> list[dict[str, Any]]:
    whose = _whose(record)
    sources = {
        "train_loss": "train_loss",
        "train_metric": f"train_{record.metric}",
        "validation_loss": "val_loss",
        "validation_metric": f"val_{record.metric}",
        "learning_rate": "learning_rate",
        "epoch": "epoch",
    }
    return [
        {
            **whose,
            "step": point.step,
            "seconds": point.seconds,
            "measure": measure,
            "value": point.metrics[source],
        }
        for point in record.curve
        for measure, source in sources.items()
        if source in point.metrics
    ]
