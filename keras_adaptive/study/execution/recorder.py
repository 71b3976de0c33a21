"""The recorder of a run: a callback that times its steps and keeps its curve."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping

import keras

from keras_adaptive.study.execution.curve import (
    POINTS_PER_EVALUATION,
    Curve,
    is_recorded,
)

Logs = Mapping[str, float]
Prunes = Callable[[int, float], bool]


class Recorder(keras.callbacks.Callback):
    """Times the steps and records the curve of a run.

    The clock runs from the first batch after an evaluation until the next evaluation
    begins, so it includes the work of earlier callbacks, such as flushing rows.
    Training stops when the budget is spent, or as soon as the loss or the metric is
    not finite, or if a pruner says so.

    Args:
        curve: Takes the measurements.
        steps: The budget in steps.
        prunes: Says after an evaluation, from step and metric, whether training stops;
            `None` if nothing does.

    Attributes:
        pruned: Whether `prunes` has stopped the training.
    """

    def __init__(self, curve: Curve, steps: int, prunes: Prunes | None = None) -> None:
        super().__init__()
        self.curve = curve
        self.steps = steps
        self.pruned = False
        self._prunes = prunes
        self.round_seconds: list[float] = []
        self.round_steps: list[int] = []
        self.step = 0

    @property
    def _clock(self) -> float:
        return sum(self.round_seconds) + time.perf_counter() - self._round_start

    def _stop_if_diverged(self) -> None:
        if self.curve.diverged_at is not None:
            self.model.stop_training = True

    def _stop_if_pruned(self, metric: float) -> None:
        if self._prunes is not None and self._prunes(self.step, metric):
            self.pruned = True
            self.model.stop_training = True

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Notes where the round begins."""
        self._steps_before = self.step
        self.curve.begin_round(self.step)

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Starts the clock with the first batch of a round."""
        if batch == 0:
            self._round_start = time.perf_counter()
        self._first_of_call = batch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Counts the steps, checks the loss and records it from time to time."""
        loss = (logs or {})["loss"]
        self.step += batch + 1 - self._first_of_call
        self.curve.check(self.step, loss)
        self._stop_if_diverged()
        if self.step == self.steps:
            self.model.stop_training = True
        every = self.params["steps"]
        if self.model.stop_training or is_recorded(self._first_of_call, batch, every):
            rate = float(self.model.optimizer.learning_rate)
            self.curve.add_training(self.step, loss, rate, self._clock)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Stops the clock when an evaluation begins."""
        self.round_seconds.append(time.perf_counter() - self._round_start)
        self.round_steps.append(self.step - self._steps_before)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Records the evaluation at the end of a round."""
        self.curve.add_evaluation(self.step, logs or {}, sum(self.round_seconds))
        self._stop_if_diverged()
        if not self.model.stop_training:
            self._stop_if_pruned((logs or {})[f"val_{self.curve.metric}"])

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
