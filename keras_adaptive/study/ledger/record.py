"""What came of a run, in the one form that is kept and read."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from keras_adaptive.study.design.contender import Setting

Phase = Literal["tune", "compare"]
Status = Literal["finished", "diverged", "failed"]


@dataclass(frozen=True)
class Point:
    """What was measured at one step.

    Args:
        step: Training steps taken.
        seconds: Seconds spent in training until then, evaluation excluded.
        timestamp: Milliseconds since 1970.
        metrics: The measured values by name.
    """

    step: int
    seconds: float
    timestamp: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Record:
    """One run: who, on what, and what came of it.

    Args:
        key: Digest of everything that decides the run.
        workload: Name of the workload.
        contender: Label of the contender.
        setting: The hyper-parameters it ran with.
        phase: `"tune"` or `"compare"`.
        seed: Seed of the initial weights and of the batch order.
        metric: Name of the metric that is judged by.
        direction: `"max"` if more of the metric is better, `"min"` if less is.
        status: `"finished"`, `"diverged"` (the loss or the metric was not finite;
            the run ended there) or `"failed"` (an exception, or its process died).
        reason: Why it failed or where it diverged; empty if it finished.
        started: Milliseconds since 1970.
        ended: Milliseconds since 1970.
        params: Everything that was asked for, by name.
        numbers: What is measured once: see `training.train`.
        curve: What is measured again and again, in the order of the steps.
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
        """What settings are chosen by; more is better, and minus infinity is worst.

        The validation metric at the end of training and, among equals, the loss.
        """
        if self.status != "finished":
            return -math.inf, -math.inf
        metric = self.numbers[f"final_val_{self.metric}"]
        loss = self.numbers["final_val_loss"]
        return (metric if self.direction == "max" else -metric), -loss

    def to_json(self) -> dict[str, Any]:
        """Returns the record as what JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Record:
        """Returns the record that `to_json` was made from."""
        rate, second = data["setting"].values()
        return cls(
            **data
            | {
                "setting": Setting(rate, tuple(second) if second else None),
                "curve": tuple(Point(**point) for point in data["curve"]),
            }
        )
