"""The recorder of a run: a callback that times its steps and keeps its curves."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping

import keras

from keras_adaptive.study.execution.trial import milliseconds
from keras_adaptive.study.ledger.record import Point

Logs = Mapping[str, float]

POINTS_PER_EVALUATION = 10
"""The number of records of the training loss between two evaluations."""


class Recorder(keras.callbacks.Callback):
    """Times the steps and records the curves of a run.

    The clock runs from the first batch after an evaluation until the next evaluation
    begins, so it includes the work of earlier callbacks, such as flushing rows.
    Training stops when the budget is spent, or as soon as the loss or the metric is
    not finite.

    Args:
        rows: The number of training rows in an epoch.
        batch_size: The number of rows in a batch; the last batch may be smaller.
        metric: Name of the metric in the logs.
        steps: The budget in steps.
    """

    def __init__(self, rows: int, batch_size: int, metric: str, steps: int) -> None:
        super().__init__()
        self.rows = rows
        self.batch_size = batch_size
        self.steps_per_epoch = math.ceil(rows / batch_size)
        self.metric = metric
        self.steps = steps
        self.curve: list[Point] = []
        self.round_seconds: list[float] = []
        self.round_steps: list[int] = []
        self.diverged_at: int | None = None
        self.step = 0

    @property
    def _clock(self) -> float:
        return sum(self.round_seconds) + time.perf_counter() - self._round_start

    def _record(self, seconds: float, **metrics: float) -> None:
        if self.curve and self.curve[-1].step == self.step:
            metrics = self.curve.pop().metrics | metrics
        self.curve.append(Point(self.step, seconds, milliseconds(), metrics))

    def _stop_if_not_finite(self, *values: float) -> None:
        if self.diverged_at is None and not all(map(math.isfinite, values)):
            self.diverged_at = self.step
            self.model.stop_training = True

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Notes where the round begins."""
        self._steps_before = self.step
        self._seen = self._seen_at_record = 0
        self._loss_sum = 0.0

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Starts the clock with the first batch of a round."""
        if batch == 0:
            self._round_start = time.perf_counter()
        self._first_of_call = batch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Counts the steps, checks the loss and records it from time to time."""
        loss = (logs or {})["loss"]
        for _ in range(self._first_of_call, batch + 1):
            before = self.step % self.steps_per_epoch * self.batch_size
            self._seen += min(self.batch_size, self.rows - before)
            self.step += 1
        self._stop_if_not_finite(loss)
        if self.step == self.steps:
            self.model.stop_training = True
        share = POINTS_PER_EVALUATION / self.params["steps"]
        if self.model.stop_training or int((batch + 1) * share) > int(
            self._first_of_call * share
        ):
            self._record_training(loss)

    def _record_training(self, mean_loss: float) -> None:
        """Records the mean loss since the last record.

        Args:
            mean_loss: The mean loss since the last evaluation.
        """
        loss_sum = mean_loss * self._seen
        self._record(
            self._clock,
            train_loss=(loss_sum - self._loss_sum)
            / (self._seen - self._seen_at_record),
            learning_rate=float(self.model.optimizer.learning_rate),
        )
        self._seen_at_record, self._loss_sum = self._seen, loss_sum

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Stops the clock when an evaluation begins."""
        self.round_seconds.append(time.perf_counter() - self._round_start)
        self.round_steps.append(self.step - self._steps_before)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Records the evaluation at the end of a round."""
        logs = logs or {}
        measured = {
            f"{part}_{name}": logs[f"{prefix}{name}"]
            for part, prefix in (("train", ""), ("val", "val_"))
            for name in dict.fromkeys(("loss", self.metric))
            if (part, name) != ("train", "loss")
        }
        epochs = self.step / self.steps_per_epoch
        self._record(sum(self.round_seconds), epoch=epochs, **measured)
        self._stop_if_not_finite(logs["val_loss"], logs[f"val_{self.metric}"])

    def step_seconds(self) -> float:
        """Returns the median time per step, without the first round.

        It is NaN if there is only one evaluation.
        """
        later = [
            seconds / steps
            for seconds, steps in zip(
                self.round_seconds[1:], self.round_steps[1:], strict=True
            )
        ]
        return statistics.median(later) if later else math.nan


def steps_per_execution(steps: int, every: int) -> int:
    """Returns the number of steps to make between two returns to Python.

    It divides both arguments, since Keras would otherwise make more steps than were
    asked for. It is at most the distance between two records of the training loss.

    Args:
        steps: The number of steps of the run.
        every: Steps between two evaluations.

    Example:
        >>> steps_per_execution(2_000, every=100)
        10
        >>> steps_per_execution(450, every=45)
        3
    """
    if keras.backend.backend() != "tensorflow":
        return 1  # Keras refuses more on PyTorch
    most = max(1, every // POINTS_PER_EVALUATION)
    common = math.gcd(steps, every)
    return max(n for n in range(1, most + 1) if common % n == 0)
