"""What the runs of a study say, as tidy tables."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from keras_adaptive.study.errors import StudyError, needs_extra
from keras_adaptive.study.record import Record
from keras_adaptive.study.statistics import best, target, to_target

with needs_extra("study"):
    import pandas as pd

TARGET_RULE = (
    "Target: the median over seeds of the best validation {metric} of the reference, "
    "{reference}, within three quarters of the budget; epochs to target: where the "
    "validation {metric} first reaches it, and how many runs did; a miss counts as "
    "later than any epoch"
)


CURVE_COLUMNS = (
    *("workload", "contender", "phase", "learning_rate", "seed", "key"),
    *("step", "seconds", "measure", "value"),
)
TARGET_SHARE = 0.75
"""Share of the budget within which the reference sets the target."""

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
    """

    records: Sequence[Record]
    reference: str
    tuned: pd.DataFrame
    given_targets: Mapping[str, float]
    run_id: str

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
        tuned reference reached within three quarters of the budget: every run has a
        third more time than the runs that set the target, as in AlgoPerf. A diverged
        run of the reference counts as the worst.
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
        `step_seconds`. A diverged run has the worst value there is, a failed one NaN.
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


def _early_best(record: Record) -> float:
    """Returns the best metric within the share of the budget that sets the target."""
    measured = record.series(f"val_{record.metric}")
    limit = TARGET_SHARE * record.curve[-1].step
    early = [value for point, value in measured if point.step <= limit]
    return float(best(early or [value for _, value in measured], record.direction))


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


@dataclass(frozen=True)
class Spread:
    """Median and range of a measurement over seeds. Infinite: the run had no value."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Returns the spread of what was measured; NaN if nothing was."""
        values = [each for each in values if not math.isnan(each)] or [math.nan]
        return cls(statistics.median(values), min(values), max(values))


MEASURES = (
    "test_metric",
    "test_loss",
    "epochs_to_target",
    "step_seconds",
    "first_round_seconds",
)


@dataclass(frozen=True)
class Row:
    """A contender's line in the table of a workload."""

    contender: str
    setting: str
    runs: int
    diverged: int
    failed: int
    hits: int
    test_metric: Spread
    test_loss: Spread
    epochs_to_target: Spread
    step_seconds: Spread
    first_round_seconds: Spread


def summarize(results: Results, workload: str) -> list[Row]:
    """Summarizes the runs of each contender over the seeds for judging.

    Diverged runs and misses count as the worst value, so they can never flatter.
    Failed runs have no value.

    Args:
        results: The results.
        workload: Of which workload.

    Returns:
        One row a contender, in the order of the study.
    """
    tuned = results.tuned[results.tuned["workload"] == workload]
    runs = results.runs
    runs = runs[(runs["workload"] == workload) & (runs["phase"] == "compare")]
    return [
        _summary(chosen, runs[runs["contender"] == chosen["contender"]])
        for chosen in tuned.to_dict("records")
    ]


def _summary(chosen: dict[str, Any], runs: pd.DataFrame) -> Row:
    return Row(
        contender=chosen["contender"],
        setting=chosen["setting"],
        runs=len(runs),
        diverged=int((runs["status"] == "diverged").sum()),
        failed=int((runs["status"] == "failed").sum()),
        hits=int((runs["steps_to_target"] < math.inf).sum()),
        **{measure: Spread.of(runs[measure]) for measure in MEASURES},
    )
