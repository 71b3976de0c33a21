"""Trains a contender once, with one seed, by an ordinary `model.fit`."""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras

from keras_adaptive.callbacks import EvaluateAveraged
from keras_adaptive.datasets.batches import (
    evaluation_batches,
    is_sparse,
    training_batches,
)
from keras_adaptive.study.design.contender import Contender
from keras_adaptive.study.design.setting import Setting
from keras_adaptive.study.design.workload import Budget, Workload
from keras_adaptive.study.ledger.record import Phase, Point, Record, Status

if TYPE_CHECKING:
    from keras_adaptive.datasets.dataset import Dataset

Logs = Mapping[str, float]

POINTS_PER_EVALUATION = 10
"""The number of records of the training loss between two evaluations."""


@dataclass(frozen=True)
class Trial:
    """A run that is to be made.

    Args:
        key: Digest of everything that decides the run.
        workload: The workload; its data are passed separately.
        budget: The length of the run.
        contender: The contender.
        setting: The hyper-parameters of the run.
        phase: The purpose of the run: `"tune"` or `"compare"`.
        seed: Decides initial weights and batch order, equally for every contender.
        params: Everything that was asked for, by name, as it will be recorded.
    """

    key: str
    workload: Workload
    budget: Budget
    contender: Contender
    setting: Setting
    phase: Phase
    seed: int
    params: dict[str, str]

    def record(
        self,
        status: Status,
        started: int,
        reason: str = "",
        numbers: dict[str, float] | None = None,
        curve: tuple[Point, ...] = (),
    ) -> Record:
        """Returns the record of the run that this trial became.

        Args:
            status: How the run ended.
            started: Milliseconds since 1970.
            reason: Why it failed or where it diverged.
            numbers: The measurements that are taken once.
            curve: The repeated measurements.
        """
        return Record(
            key=self.key,
            workload=self.workload.name,
            contender=self.contender.label,
            setting=self.setting,
            phase=self.phase,
            seed=self.seed,
            metric=self.workload.metric_name,
            direction=self.workload.metric_direction,
            status=status,
            reason=reason,
            started=started,
            ended=milliseconds(),
            params=self.params,
            numbers=numbers or {},
            curve=curve,
        )


def milliseconds() -> int:
    """Returns the time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds the global random state that Keras draws from, and restores it afterwards.

    Keras draws missing seeds of initializers and of dropout from Python's `random`.
    PyTorch draws the masks of dropout from its own state.

    Args:
        seed: The seed.
    """
    state = random.getstate()
    random.seed(seed)
    with ExitStack() as stack:
        stack.callback(random.setstate, state)
        if keras.backend.backend() == "torch":
            import torch

            stack.enter_context(torch.random.fork_rng())
            torch.manual_seed(seed)
        yield


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
        """Starts with empty curves."""
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


def compile_model(
    model: keras.Model,
    workload: Workload,
    data: Dataset,
    optimizer: keras.optimizers.Optimizer,
    **options: Any,
) -> None:
    """Compiles a model for a workload.

    Args:
        model: The model.
        workload: The workload, which gives loss and metric.
        data: Its data, which may be sparse.
        optimizer: The optimizer.
        **options: Further arguments of `compile`.
    """
    if is_sparse(data.train.x):
        options["jit_compile"] = False  # XLA cannot compile Dense on a sparse input
    model.compile(
        optimizer, loss=workload.loss, metrics=workload.make_metrics(), **options
    )


def state_per_weight(model: keras.Model) -> float:
    """Returns the numbers of optimizer state for each trainable weight."""
    kept, trained = (
        sum(math.prod(variable.shape) for variable in variables)
        for variables in (model.optimizer.variables, model.trainable_variables)
    )
    return kept / trained


def train(trial: Trial, data: Dataset) -> Record:
    """Trains a fresh model and evaluates it at the end.

    Args:
        trial: The run to make.
        data: The data of its workload.

    Returns:
        The record. Every run has these numbers: `initial_val_` of loss and metric,
        before training; `first_round_seconds`, the time until the first evaluation,
        which includes compilation; `step_seconds`, the time of a step after that; and
        `state_per_weight`, the numbers that the optimizer keeps for each weight. A run
        that did not diverge also has `final_train_`, `final_val_` and `test_` of loss
        and metric, at the end of training; `best_val_` of the metric, over all
        evaluations; and `test_` of the metric with a dot and the name of each slice.
    """
    workload, budget = trial.workload, trial.budget
    started = milliseconds()
    rows, metric = len(data.train.y), workload.metric_name
    steps = budget.steps(rows, workload.batch_size)
    every = budget.evaluate_every(rows, workload.batch_size)
    model = workload.build(trial.seed)
    compile_model(
        model,
        workload,
        data,
        trial.contender.make(trial.setting),
        steps_per_execution=steps_per_execution(steps, every),
    )
    recorder = Recorder(rows, workload.batch_size, metric, steps)
    validation = evaluation_batches(data.validation)
    numbers = _evaluate(model, validation, metric, "initial_val")
    model.fit(
        training_batches(data.train, workload.batch_size, trial.seed),
        epochs=math.ceil(steps / every),
        steps_per_epoch=every,
        validation_data=validation,
        callbacks=[EvaluateAveraged(), recorder],
        shuffle=False,
        verbose=0,
    )
    numbers |= {
        "first_round_seconds": recorder.round_seconds[0],
        "step_seconds": recorder.step_seconds(),
        "state_per_weight": state_per_weight(model),
    }
    curve = tuple(recorder.curve)
    if recorder.diverged_at is not None:
        reason = f"not finite at step {recorder.diverged_at}"
        return trial.record("diverged", started, reason, numbers, curve)
    numbers |= _final_numbers(model, workload, data, curve)
    return trial.record("finished", started, "", numbers, curve)


def _evaluate(
    model: keras.Model, batches: Any, metric: str, part: str
) -> dict[str, float]:
    """Returns loss and metric on some data, named after the part that they are of."""
    measured = model.evaluate(batches, verbose=0, return_dict=True)
    return {f"{part}_{name}": measured[name] for name in ("loss", metric)}


def _final_numbers(
    model: keras.Model, workload: Workload, data: Dataset, curve: Sequence[Point]
) -> dict[str, float]:
    """Returns the numbers of a run that finished, see `train`."""
    metric = workload.metric_name
    numbers = {
        **_evaluate(model, evaluation_batches(data.train), metric, "final_train"),
        **_evaluate(model, evaluation_batches(data.test), metric, "test"),
    }
    evaluations = [
        {name: point.metrics[f"val_{name}"] for name in ("loss", metric)}
        for point in curve
        if "val_loss" in point.metrics
    ]
    numbers |= {f"final_val_{name}": value for name, value in evaluations[-1].items()}
    best = max if workload.direction == "max" else min
    numbers[f"best_val_{metric}"] = best(each[metric] for each in evaluations)
    if workload.slices:
        for name, mask in workload.slices(data).items():
            batches = evaluation_batches(data.test.take(mask))
            part = _evaluate(model, batches, metric, "slice")
            numbers[f"test_{metric}.{name}"] = part[f"slice_{metric}"]
    return numbers


def attempt(trial: Trial, data: Dataset) -> Record:
    """Trains, and turns an exception into the record of a failed run.

    Args:
        trial: The run to make.
        data: The data of its workload.
    """
    started = milliseconds()
    try:
        with seeded(trial.seed):
            return train(trial, data)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{last.filename}:{last.lineno}"
        return trial.record(
            "failed", started, f"{type(error).__name__}: {error} ({place})"
        )
    finally:
        gc.collect()  # models refer to themselves in circles
