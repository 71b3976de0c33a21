"""The runs of a study as tidy tables, which analysis and reporting take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from keras_adaptive.errors import InputError, needs_extra
from keras_adaptive.study.analysis.clock import UNKNOWN, Clock, Whose, clocks
from keras_adaptive.study.analysis.stats.medians import median
from keras_adaptive.study.analysis.stats.targets import best, target, to_target
from keras_adaptive.study.design.setting import column_of
from keras_adaptive.study.ledger.record import Record

with needs_extra("study"):
    import pandas as pd

TARGET_SHARE = 0.75
"""The share of the reference's budget within which it sets the target."""

CURVE_COLUMNS = (
    *("workload", "contender", "phase", "learning_rate", "seed", "key"),
    *("step", "seconds", "measure", "value"),
)
TO_TARGET = ("steps_to_target", "epochs_to_target", "seconds_to_target")
LEARNING_RATE = "learning_rate"


@dataclass(frozen=True)
class RunTable:
    """The runs of a study, with the settings that were chosen.

    Args:
        records: The runs by workload and contender, tuning first.
        reference: Label of the contender that the others are compared with.
        tuned: A row for each workload and contender: the chosen setting (NaN if none
            worked), the number of trials (0 if the setting is fixed), the training
            steps of tuning, and the number of runs that were pruned.
        given_targets: The targets that the protocol sets, by workload.
        tuner: What chose the settings, in words; empty for a grid.
    """

    records: Sequence[Record]
    reference: str
    tuned: pd.DataFrame
    given_targets: Mapping[str, float]
    tuner: str = ""

    @property
    def directions(self) -> dict[str, str]:
        """For each workload `"max"` if more of its metric is better, else `"min"`."""
        return {record.workload: record.direction for record in self.records}

    @property
    def metrics(self) -> dict[str, str]:
        """The name of each workload's metric."""
        return {record.workload: record.metric for record in self.records}

    @property
    def contenders(self) -> list[str]:
        """The labels of the contenders, in the order of the study."""
        return list(self.tuned["contender"].unique())

    @cached_property
    def targets(self) -> dict[str, float]:
        """The validation metric to reach on each workload; NaN if there is none.

        Unless the protocol sets it, it is the median over seeds of the best value that
        the tuned reference reached within three quarters of its steps. Every run then
        has a third more time than the runs that set the target (arXiv:2306.07179). A
        run of the reference that diverged, or was not evaluated so early, counts as
        the worst.
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
        """A table with a row for each run.

        Identity: `workload`, `contender`, `phase` (`"tune"` or `"compare"`),
        `learning_rate`, the extra hyper-parameter by its name (after `hyperparameter.`
        if a column has that name), `seed` and `key`.

        End: `status` (`"finished"`, `"diverged"`, `"failed"` or `"pruned"`) and
        `reason`.

        Measurements at the end of training: `train_metric`, `validation_metric` and
        `test_metric`, the same with `_loss`, and `<slice>_metric` for each slice.

        Further measurements: `best_validation_metric`; `initial_loss`, on the
        validation data before training; `steps_to_target`, `epochs_to_target` and
        `seconds_to_target`, infinite for a miss; `first_round_seconds`, with
        compilation, and `step_seconds`; `state_per_weight`, the numbers that the
        optimizer keeps for each weight.

        A diverged run has the worst possible values, a failed or pruned one NaN. The
        seconds of compiled runs follow from runs that were timed alone, see `clock`;
        those runs have no row.
        """
        return pd.DataFrame(
            [
                _row(record, self.targets[record.workload], self._clock(record))
                for record in self.records
                if record.phase != "time"
            ]
        )

    @cached_property
    def curves(self) -> pd.DataFrame:
        """A table with a row for each repeated measurement.

        Identity: `key`, `workload`, `contender`, `phase`, `learning_rate`, `seed`.
        Time: `step`, and `seconds` of training without evaluation. Measurement:
        `measure`, one of `train_loss`, `train_metric`, `validation_loss`,
        `validation_metric`, `learning_rate` and `epoch`, with its `value`.
        """
        rows = [
            row
            for record in self.records
            if record.phase != "time"
            for row in _curve_rows(record, self._clock(record))
        ]
        columns = [*CURVE_COLUMNS, *self._extra_hyperparameters]
        return pd.DataFrame(rows, columns=columns)

    @cached_property
    def _clocks(self) -> dict[Whose, Clock]:
        return clocks(self.records)

    def _clock(self, record: Record) -> Clock:
        return self._clocks.get((record.workload, record.contender), UNKNOWN)

    @property
    def _extra_hyperparameters(self) -> list[str]:
        extras = (record.setting.extra_hyperparameter for record in self.records)
        return list(dict.fromkeys(column_of(extra[0]) for extra in extras if extra))

    @property
    def tuning(self) -> pd.DataFrame:
        """The runs that tuned the contenders."""
        return self.runs[self.runs["phase"] == "tune"]

    @property
    def evaluation(self) -> pd.DataFrame:
        """The runs of the chosen settings with the evaluation seeds."""
        return self.runs[self.runs["phase"] == "compare"]

    def evaluation_on(self, workload: str) -> pd.DataFrame:
        """Returns the evaluation runs on a workload."""
        return self.evaluation[self.evaluation["workload"] == workload]

    @property
    def tuned_hyperparameters(self) -> list[str]:
        """The names of the hyper-parameters that were tuned."""
        names = dict.fromkeys([LEARNING_RATE, *self._extra_hyperparameters])
        return [name for name in names if self.tuning[name].notna().any()]

    @property
    def grids(self) -> list[str]:
        """The names of the hyper-parameters that were tuned on a grid.

        Robustness compares losses over a grid. A tuner tries more values where they are
        good, so its runs would make every optimizer look robust.
        """
        return [] if self.tuner else self.tuned_hyperparameters

    def tuning_along(self, hyperparameter: str) -> pd.DataFrame:
        """Returns the tuning runs along a hyper-parameter, the others as chosen.

        Args:
            hyperparameter: Name of the hyper-parameter.

        Returns:
            At most one run for each workload, contender, value and seed.
        """
        runs = self.tuning.dropna(subset=[hyperparameter])
        whose = ["workload", "contender"]
        for other in self.tuned_hyperparameters:
            if other != hyperparameter:
                chosen = self.tuned.set_index(whose).reindex(columns=[other])
                fixed = runs[whose].merge(
                    chosen, "left", left_on=whose, right_index=True
                )
                runs = runs[(runs[other] == fixed[other]) | runs[other].isna()]
        return runs

    def median_costs(self, column: str) -> pd.DataFrame:
        """Returns the median cost of the tuned contenders on each workload.

        Args:
            column: The column of `runs` that measures the cost. A metric of which more
                is better gets the opposite sign.

        Returns:
            The medians over seeds, workloads × contenders; infinite if the median run
            diverged, NaN if no run measured the cost.
        """
        runs = self.evaluation.dropna(subset=[column])
        values = runs[column].astype(float)
        if column.endswith("_metric"):
            more = runs["workload"].map(self.directions) == "max"
            values = values.where(~more, -values)
        groups = runs.assign(value=values).groupby(
            ["workload", "contender"], sort=False
        )
        medians = groups["value"].agg(median).unstack("contender")
        return medians.reindex(
            index=[name for name in self.metrics if name in medians.index],
            columns=self.contenders,
        )


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
    except InputError:
        return math.nan


def worst(direction: str) -> float:
    """Returns the value of a metric that loses against every other."""
    return -math.inf if direction == "max" else math.inf


def _identity(record: Record) -> dict[str, Any]:
    extra = record.setting.extra_hyperparameter
    return {
        "workload": record.workload,
        "contender": record.contender,
        "phase": record.phase,
        "learning_rate": record.setting.learning_rate,
        **({column_of(extra[0]): extra[1]} if extra else {}),
        "seed": record.seed,
        "key": record.key,
    }


def _row(record: Record, target: float, clock: Clock) -> dict[str, Any]:
    numbers = record.numbers
    return {
        **_identity(record),
        "status": record.status,
        "reason": record.reason,
        **_metrics_and_losses(record),
        "initial_loss": numbers.get("initial_val_loss", math.nan),
        **_to_target(record, target, clock),
        "first_round_seconds": numbers.get("first_round_seconds", clock.first_round),
        "step_seconds": numbers.get("step_seconds", clock.step),
        "state_per_weight": numbers.get("state_per_weight", math.nan),
    }


def _metrics_and_losses(record: Record) -> dict[str, float]:
    """Returns metrics and losses at the end of a run, the worst if it diverged."""
    numbers, metric = record.numbers, record.metric
    ends = {"train": "final_train", "validation": "final_val", "test": "test"}
    metrics = {
        **{f"{part}_metric": f"{end}_{metric}" for part, end in ends.items()},
        **{
            f"{name.rpartition('.')[2]}_metric": name
            for name in numbers
            if name.startswith(f"test_{metric}.")
        },
        "best_validation_metric": f"best_val_{metric}",
    }
    losses = {f"{part}_loss": f"{end}_loss" for part, end in ends.items()}
    diverged = record.status == "diverged"
    no_metric = worst(record.direction) if diverged else math.nan
    no_loss = math.inf if diverged else math.nan
    return {
        **{name: numbers.get(source, no_metric) for name, source in metrics.items()},
        **{name: numbers.get(source, no_loss) for name, source in losses.items()},
    }


def _to_target(record: Record, target: float, clock: Clock) -> dict[str, float]:
    """Returns where a run first reached the target; a diverged run never did."""
    if record.status in ("failed", "pruned") or math.isnan(target):
        return dict.fromkeys(TO_TARGET, math.nan)
    measured = record.series(f"val_{record.metric}")
    values = [value for _, value in measured]
    seconds = [clock.at(point) for point, _ in measured]
    places: tuple[list[float], ...] = (
        [point.step for point, _ in measured],
        [point.metrics["epoch"] for point, _ in measured],
        seconds,
    )
    if record.status == "diverged":
        reached = dict.fromkeys(TO_TARGET, math.inf)
    else:
        reached = {
            name: float(to_target(each, values, target, record.direction))
            for name, each in zip(TO_TARGET, places, strict=True)
        }
    if any(map(math.isnan, seconds)):  # a compiled run that nobody timed
        reached["seconds_to_target"] = math.nan
    return reached


def _curve_rows(record: Record, clock: Clock) -> list[dict[str, Any]]:
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
            **_identity(record),
            "step": point.step,
            "seconds": clock.at(point),
            "measure": measure,
            "value": point.metrics[source],
        }
        for point in record.curve
        for measure, source in sources.items()
        if source in point.metrics
    ]
