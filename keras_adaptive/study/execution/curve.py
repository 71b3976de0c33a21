"""The curve of a run: what is recorded of its losses and evaluations, and when."""

from __future__ import annotations

import math
from collections.abc import Mapping

from keras_adaptive.study.execution.trial import milliseconds
from keras_adaptive.study.ledger.record import Point

POINTS_PER_EVALUATION = 10
"""The number of records of the training loss between two evaluations."""


class Curve:
    """Collects the points of a run, round by round.

    A round is the training between two evaluations. Training should stop as soon as
    `diverged_at` is set.

    Args:
        rows: The number of training rows in an epoch.
        batch_size: The number of rows in a batch; the last batch may be smaller.
        metric: Name of the metric in the logs.

    Attributes:
        points: The points so far.
        diverged_at: The first step at which the loss or the metric was not finite.
    """

    def __init__(self, rows: int, batch_size: int, metric: str) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.steps_per_epoch = math.ceil(rows / batch_size)
        self.metric = metric
        self.points: list[Point] = []
        self.diverged_at: int | None = None
        self.begin_round(0)

    def begin_round(self, step: int) -> None:
        """Begins a round after a step."""
        self._rows_before = self._rows_recorded = self._rows_until(step)
        self._loss_sum = 0.0

    def _rows_until(self, step: int) -> int:
        """Returns the number of rows that were trained on until a step."""
        epochs, batches = divmod(step, self.steps_per_epoch)
        return epochs * self.rows + batches * self.batch_size

    def add(self, step: int, seconds: float, **metrics: float) -> None:
        """Adds measurements at a step."""
        if self.points and self.points[-1].step == step:
            metrics = self.points.pop().metrics | metrics
        self.points.append(Point(step, seconds, milliseconds(), metrics))

    def check(self, step: int, *values: float) -> None:
        """Notes that the run has diverged if a value is not finite."""
        if self.diverged_at is None and not all(map(math.isfinite, values)):
            self.diverged_at = step

    def add_training(
        self, step: int, mean_loss: float, learning_rate: float, seconds: float
    ) -> None:
        """Adds the mean loss since the last record.

        Args:
            step: The step.
            mean_loss: The mean loss of the round so far.
            learning_rate: The learning rate after the step.
            seconds: Seconds of training so far.
        """
        rows = self._rows_until(step)
        loss_sum = mean_loss * (rows - self._rows_before)
        loss = (loss_sum - self._loss_sum) / (rows - self._rows_recorded)
        self.add(step, seconds, train_loss=loss, learning_rate=learning_rate)
        self._rows_recorded, self._loss_sum = rows, loss_sum

    def add_evaluation(
        self, step: int, logs: Mapping[str, float], seconds: float
    ) -> None:
        """Adds the evaluation at the end of a round.

        Args:
            step: The step.
            logs: The metrics of the round, and those of the validation data with the
                prefix `val_`.
            seconds: Seconds of training so far.
        """
        measured = {
            f"{part}_{name}": logs[f"{prefix}{name}"]
            for part, prefix in (("train", ""), ("val", "val_"))
            for name in dict.fromkeys(("loss", self.metric))
            if (part, name) != ("train", "loss")
        }
        self.add(step, seconds, epoch=step / self.steps_per_epoch, **measured)
        self.check(step, logs["val_loss"], logs[f"val_{self.metric}"])


def is_recorded(first: int, last: int, every: int) -> bool:
    """Says whether the loss is recorded after some batches of a round.

    Args:
        first: The first of the batches, counted from 0.
        last: The last of them.
        every: The number of batches in the round.
    """
    share = POINTS_PER_EVALUATION / every
    return int((last + 1) * share) > int(first * share)
