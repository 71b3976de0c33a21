"""The record of a run: the one form in which results are kept and read."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from keras_adaptive.study.design.setting import Setting

Phase = Literal["tune", "compare", "time"]
Status = Literal["finished", "diverged", "failed", "pruned"]

NONE_WORKED = "none worked"
"""Takes the place of a tuned setting if every run of the contender was lost."""


@dataclass(frozen=True)
class Point:
    """The measurements at one step.

    Args:
        step: Training steps so far.
        seconds: Seconds of training so far, without evaluation; NaN if unknown.
        timestamp: Milliseconds since 1970.
        metrics: The measured values by name.
    """

    step: int
    seconds: float
    timestamp: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Record:
    """One run with its measurements.

    Args:
        key: Digest of everything that decides the run.
        workload: Name of the workload.
        contender: Label of the contender.
        setting: The hyper-parameters of the run.
        phase: `"tune"`, `"compare"`, or `"time"` for a short run that is timed.
        seed: Seed of the initial weights and of the batch order.
        metric: Name of the metric that decides.
        direction: `"max"` if more of the metric is better, `"min"` if less is.
        status: `"finished"`, `"diverged"` (the loss or the metric was not finite and
            the run ended there), `"pruned"` (a pruner stopped it) or `"failed"` (it
            raised, or its process died).
        reason: Why it failed, or where it diverged or was pruned; empty if it finished.
        started: Milliseconds since 1970.
        ended: Milliseconds since 1970.
        params: Everything that was asked for, by name.
        numbers: The measurements that are taken once, see `training.train`.
        curve: The repeated measurements, in the order of the steps.
    """

    key: str
    workload: str
    contender: str
    setting: Setting
    phase: Phase
    seed: int
    metric: str
    direction: Literal["max", "min"]
    status: Status
    reason: str
    started: int
    ended: int
    params: dict[str, str]
    numbers: dict[str, float]
    curve: tuple[Point, ...]

    def series(self, metric: str) -> list[tuple[Point, float]]:
        """Returns the points at which a metric was measured, with its values."""
        return [
            (point, point.metrics[metric])
            for point in self.curve
            if metric in point.metrics
        ]

    @property
    def score(self) -> tuple[float, float]:
        """The score by which settings are chosen; more is better.

        It is the validation metric at the end of training, then the loss. A run that
        was lost or pruned scores minus infinity.
        """
        if self.status != "finished":
            return -math.inf, -math.inf
        metric = self.numbers[f"final_val_{self.metric}"]
        return self._upward(metric), -self.numbers["final_val_loss"]

    @cached_property
    def course(self) -> dict[int, float]:
        """The finite validation metrics by their steps; more is better."""
        return {
            point.step: self._upward(value)
            for point, value in self.series(f"val_{self.metric}")
            if math.isfinite(value)
        }

    @property
    def steps(self) -> int:
        """The training steps that the run took, as far as it recorded them."""
        return self.curve[-1].step if self.curve else 0

    def _upward(self, metric: float) -> float:
        return metric if self.direction == "max" else -metric

    def to_json(self) -> dict[str, Any]:
        """Returns the record as a structure that JSON can hold."""
        setting = {
            "learning_rate": self.setting.learning_rate,
            "second": self.setting.extra_hyperparameter,
        }
        return asdict(self) | {"setting": setting}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Record:
        """Returns the record that `to_json` was made from."""
        rate, extra = data["setting"]["learning_rate"], data["setting"]["second"]
        return cls(
            **data
            | {
                "setting": Setting(rate, tuple(extra) if extra else None),
                "curve": tuple(Point(**point) for point in data["curve"]),
            }
        )
