"""How a run ended: its last numbers, and its record if it was lost."""

from __future__ import annotations

import traceback
from collections.abc import Mapping

from keras_adaptive.study.design.workload import Workload
from keras_adaptive.study.execution.curve import Curve
from keras_adaptive.study.execution.trial import Trial
from keras_adaptive.study.ledger.record import Record

SLICE = "slice."
"""Precedes the name of a slice among the parts of the data."""


def of_part(part: str, logs: Mapping[str, float], metric: str) -> dict[str, float]:
    """Returns the loss and the metric of some rows, by their names in a record."""
    return {f"{part}_{name}": float(logs[name]) for name in ("loss", metric)}


def end_numbers(
    workload: Workload, curve: Curve, ends: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """Returns the numbers of a run that finished, see `train`.

    Args:
        workload: The workload.
        curve: The curve of the run.
        ends: Loss and metric after training: of `final_train`, of `test`, and of each
            slice of the test rows.
    """
    metric = workload.metric_name
    numbers: dict[str, float] = {}
    for part, logs in ends.items():
        if part.startswith(SLICE):
            name = part.removeprefix(SLICE)
            numbers[f"test_{metric}.{name}"] = float(logs[metric])
        else:
            numbers |= of_part(part, logs, metric)
    evaluations = [
        {name: point.metrics[f"val_{name}"] for name in ("loss", metric)}
        for point in curve.points
        if "val_loss" in point.metrics
    ]
    numbers |= {f"final_val_{name}": value for name, value in evaluations[-1].items()}
    best = max if workload.direction == "max" else min
    numbers[f"best_val_{metric}"] = best(each[metric] for each in evaluations)
    return numbers


def diverged(
    trial: Trial, started: int, numbers: dict[str, float], curve: Curve
) -> Record:
    """Returns the record of a run that diverged."""
    reason = f"not finite at step {curve.diverged_at}"
    return trial.record("diverged", started, reason, numbers, tuple(curve.points))


def pruned(
    trial: Trial, started: int, numbers: dict[str, float], curve: Curve, steps: int
) -> Record:
    """Returns the record of a run that was stopped before the end of its steps."""
    reason = f"at step {curve.points[-1].step} of {steps}"
    return trial.record("pruned", started, reason, numbers, tuple(curve.points))


def failed(trial: Trial, started: int, error: Exception) -> Record:
    """Returns the record of a run that raised an error."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    reason = f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"
    return trial.record("failed", started, reason)
