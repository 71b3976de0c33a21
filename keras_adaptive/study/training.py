"""One contender, trained once with one seed by an ordinary `model.fit`."""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_adaptive.callbacks import EvaluateAveraged
from keras_adaptive.study.batches import epoch_orders, sparse_batches
from keras_adaptive.study.datasets.dataset import Dataset

POINTS_PER_EPOCH = 10
EVALUATION_BATCH = 512


@dataclass(frozen=True)
class Contender:
    """An optimizer that takes part in a comparison.

    Args:
        algorithm: What it computes, such as `"adam"`; contenders of one algorithm
            share a colour in the plots.
        library: Whose code it is: `"keras"` or `"keras_adaptive"`.
        make: Makes the optimizer for a learning rate.
        learning_rate: The learning rate it runs with.
    """

    algorithm: str
    library: str
    make: Callable[[float], keras.optimizers.Optimizer]
    learning_rate: float

    @property
    def name(self) -> str:
        return f"{self.library}/{self.algorithm}"


@dataclass(frozen=True)
class Protocol:
    """How long and on what each contender trains.

    Args:
        epochs: Passes over the training data.
        batch_size: Rows of a training batch.
        seeds: One run of every contender for each.
    """

    epochs: int
    batch_size: int
    seeds: tuple[int, ...]

    def steps_per_epoch(self, rows: int) -> int:
        """Returns the batches of an epoch, the last of which may be smaller."""
        return -(-rows // self.batch_size)


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
class RunResult:
    """What came of one run.

    Args:
        contender: Who ran.
        seed: Seed of the initial weights and of the batch order.
        config: The optimizer's `get_config()`.
        curve: The measured points, in order.
        first_epoch_seconds: Duration of the first epoch, compilation included.
        step_seconds: Time per step, of the median epoch after the first; NaN if
            there is none.
        diverged_at: Step at which the loss was no longer finite, or `None`.
        test_loss: Loss on the test part; infinite if the run diverged.
        test_accuracy: Accuracy on the test part; minus infinity if the run diverged.
    """

    contender: Contender
    seed: int
    config: dict[str, Any]
    curve: tuple[Point, ...]
    first_epoch_seconds: float
    step_seconds: float
    diverged_at: int | None
    test_loss: float
    test_accuracy: float

    def series(self, metric: str) -> list[tuple[Point, float]]:
        """Returns the points at which a metric was measured, with its values."""
        return [
            (point, point.metrics[metric])
            for point in self.curve
            if metric in point.metrics
        ]


class Recorder(keras.callbacks.Callback):
    """Times the steps and keeps the curves of a run.

    The clock runs from an epoch's first batch until validation begins, so whatever
    callbacks before this one do in between, such as flushing rows, is counted.
    Training stops as soon as the loss is not finite.

    Args:
        rows: Training rows of an epoch.
        batch_size: Rows of a batch; the last one of an epoch may be smaller.
        on_step: Called after each training step.
    """

    def __init__(self, rows: int, batch_size: int, on_step: Callable[[], None]):
        super().__init__()
        self.rows = rows
        self.batch_size = batch_size
        self.on_step = on_step
        self.curve: list[Point] = []
        self.epoch_seconds: list[float] = []
        self.epoch_steps: list[int] = []
        self.diverged_at: int | None = None
        self.step = 0

    @property
    def _clock(self) -> float:
        return sum(self.epoch_seconds) + time.perf_counter() - self._epoch_start

    def _record(self, seconds: float, **metrics: float) -> None:
        now = time.time_ns() // 1_000_000
        self.curve.append(Point(self.step, seconds, now, metrics))

    def on_epoch_begin(self, epoch, logs=None):
        self._steps_before = self.step
        self._seen = 0
        self._loss_sum = 0.0

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 0:
            self._epoch_start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        self.on_step()
        if not math.isfinite(logs["loss"]):
            self.diverged_at = self.step
            self.model.stop_training = True
        share = POINTS_PER_EPOCH / self.params["steps"]
        if self.diverged_at or int((batch + 1) * share) > int(batch * share):
            self._record_training(batch, logs["loss"])

    def _record_training(self, batch: int, mean_loss_of_epoch: float) -> None:
        """Records the mean loss since the last record, from that of the epoch."""
        seen = min((batch + 1) * self.batch_size, self.rows)
        loss_sum = mean_loss_of_epoch * seen
        self._record(
            self._clock,
            train_loss=(loss_sum - self._loss_sum) / (seen - self._seen),
            learning_rate=float(self.model.optimizer.learning_rate),
        )
        self._seen, self._loss_sum = seen, loss_sum

    def on_test_begin(self, logs=None):
        self.epoch_seconds.append(time.perf_counter() - self._epoch_start)
        self.epoch_steps.append(self.step - self._steps_before)

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        self._record(
            sum(self.epoch_seconds),
            train_accuracy=logs["accuracy"],
            val_loss=logs["val_loss"],
            val_accuracy=logs["val_accuracy"],
            epoch=epoch + 1,
        )
        if self.diverged_at is None and not math.isfinite(logs["val_loss"]):
            self.diverged_at = self.step
            self.model.stop_training = True

    def step_seconds(self) -> float:
        """Returns the time per step, of the median epoch after the first."""
        later = [
            seconds / steps
            for seconds, steps in zip(
                self.epoch_seconds[1:], self.epoch_steps[1:], strict=True
            )
        ]
        return statistics.median(later) if later else math.nan


def train(
    build_model: Callable[[int], keras.Model],
    contender: Contender,
    data: Dataset,
    protocol: Protocol,
    seed: int,
    on_step: Callable[[], None] = lambda: None,
) -> RunResult:
    """Trains a fresh model with one contender and tests its final weights.

    Args:
        build_model: Builds the model with initial weights that the seed decides.
        contender: The optimizer to train with.
        data: What to learn.
        protocol: How long to train, in which batches.
        seed: Decides initial weights and batch order, the same for every contender.
        on_step: Called after each training step.

    Returns:
        The curves, times and test results.
    """
    model = build_model(seed)
    optimizer = contender.make(contender.learning_rate)
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,  # XLA cannot compile Dense on a sparse input
    )
    rows = len(data.train.y)
    batches = sparse_batches(
        *data.train,
        protocol.batch_size,
        epoch_orders(rows, protocol.epochs, seed),
    )
    validation, test = (
        sparse_batches(*part, EVALUATION_BATCH, [np.arange(len(part.y))])
        for part in (data.validation, data.test)
    )
    recorder = Recorder(rows, protocol.batch_size, on_step)
    model.fit(
        batches,
        epochs=protocol.epochs,
        steps_per_epoch=protocol.steps_per_epoch(rows),
        validation_data=validation,
        callbacks=[EvaluateAveraged(), recorder],
        shuffle=False,
        verbose=0,
    )
    loss, accuracy = math.inf, -math.inf
    if recorder.diverged_at is None:
        tested = model.evaluate(test, verbose=0, return_dict=True)
        loss, accuracy = tested["loss"], tested["accuracy"]
    return RunResult(
        contender=contender,
        seed=seed,
        config=optimizer.get_config(),
        curve=tuple(recorder.curve),
        first_epoch_seconds=recorder.epoch_seconds[0],
        step_seconds=recorder.step_seconds(),
        diverged_at=recorder.diverged_at,
        test_loss=loss,
        test_accuracy=accuracy,
    )


def plan(
    contenders: list[Contender], protocol: Protocol
) -> Iterator[tuple[Contender, int]]:
    """Yields every run: for each seed all contenders, so that pairs run side by side.

    Args:
        contenders: Who takes part.
        protocol: The seeds.

    Yields:
        Contender and seed of each run.
    """
    for seed in protocol.seeds:
        for contender in contenders:
            yield contender, seed
