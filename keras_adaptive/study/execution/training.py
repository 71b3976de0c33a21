"""One contender, trained once with one seed by an ordinary `model.fit`."""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import keras

from keras_adaptive.callbacks import EvaluateAveraged
from keras_adaptive.datasets.batches import (
    evaluation_batches,
    is_sparse,
    training_batches,
)
from keras_adaptive.study.design.contender import Contender, Setting
from keras_adaptive.study.design.workload import Budget, Workload
from keras_adaptive.study.ledger.record import Phase, Point, Record, Status

if TYPE_CHECKING:
    from keras_adaptive.datasets.dataset import Dataset

POINTS_PER_EVALUATION = 10
"""How often the training loss is recorded between two evaluations."""


@dataclass(frozen=True)
class Trial:
    """A run that is to be made.

    Args:
        key: Digest of everything that decides it.
        workload: What is learned; its data come separately.
        budget: How long.
        contender: Who runs.
        setting: The hyper-parameters it runs with.
        phase: What the run is for: `"tune"` or `"compare"`.
        seed: Decides initial weights and batch order, the same for every contender.
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
        """Returns what came of it, for the ledger."""
        return Record(
            key=self.key,
            workload=self.workload.name,
            contender=self.contender.label,
            setting=self.setting,
            phase=self.phase,
            seed=self.seed,
            metric=self.workload.metric_name,
            direction=self.workload.direction,
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
    """Seeds the global random state that Keras draws from, and puts it back.

    Keras takes the seeds of initializers and of dropout that are given none from
    Python's `random`, and PyTorch draws the masks of dropout from its own state.

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
    """Times the steps and keeps the curves of a run.

    The clock runs from the first batch after an evaluation until the next evaluation
    begins, so whatever callbacks before this one do in between, such as flushing
    rows, is counted. Training stops as soon as the loss or the metric is not finite,
    and when the budget is spent.

    Args:
        rows: Training rows of an epoch.
        batch_size: Rows of a batch; the last one of an epoch may be smaller.
        metric: Name of the metric in the logs.
        steps: The budget.
    """

    def __init__(self, rows: int, batch_size: int, metric: str, steps: int):
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

    def on_epoch_begin(self, epoch, logs=None):
        self._steps_before = self.step
        self._seen = self._seen_at_record = 0
        self._loss_sum = 0.0

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 0:
            self._round_start = time.perf_counter()
        self._first_of_call = batch

    def on_train_batch_end(self, batch, logs=None):
        for _ in range(self._first_of_call, batch + 1):
            before = self.step % self.steps_per_epoch * self.batch_size
            self._seen += min(self.batch_size, self.rows - before)
            self.step += 1
        self._stop_if_not_finite(logs["loss"])
        if self.step == self.steps:
            self.model.stop_training = True
        share = POINTS_PER_EVALUATION / self.params["steps"]
        if self.model.stop_training or int((batch + 1) * share) > int(
            self._first_of_call * share
        ):
            self._record_training(logs["loss"])

    def _record_training(self, mean_loss: float) -> None:
        """Records the mean loss since the last record, from that since evaluation."""
        loss_sum = mean_loss * self._seen
        self._record(
            self._clock,
            train_loss=(loss_sum - self._loss_sum)
            / (self._seen - self._seen_at_record),
            learning_rate=float(self.model.optimizer.learning_rate),
        )
        self._seen_at_record, self._loss_sum = self._seen, loss_sum

    def on_test_begin(self, logs=None):
        self.round_seconds.append(time.perf_counter() - self._round_start)
        self.round_steps.append(self.step - self._steps_before)

    def on_epoch_end(self, epoch, logs=None):
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
        """Returns the time per step between evaluations, without the first: the median.

        NaN if there is one evaluation only.
        """
        later = [
            seconds / steps
            for seconds, steps in zip(
                self.round_seconds[1:], self.round_steps[1:], strict=True
            )
        ]
        return statistics.median(later) if later else math.nan


def steps_per_execution(steps: int, every: int) -> int:
    """Returns how many steps to make between two returns to Python.

    A divisor of both arguments, since Keras would otherwise make more steps than
    were asked for, and at most what lies between two records of the training loss.

    Args:
        steps: All steps of the run.
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
    **options,
) -> None:
    """Compiles a model for a workload.

    Args:
        model: The model.
        workload: Gives loss and metric.
        data: What will be fed: sparse or not.
        optimizer: The optimizer.
        **options: Further arguments of `compile`.
    """
    if is_sparse(data.train.x):
        options["jit_compile"] = False  # XLA cannot compile Dense on a sparse input
    model.compile(
        optimizer, loss=workload.loss, metrics=workload.make_metrics(), **options
    )


def state_per_weight(model: keras.Model) -> float:
    """Returns how many numbers a model's optimizer keeps for each trainable weight."""
    kept, trained = (
        sum(math.prod(variable.shape) for variable in variables)
        for variables in (model.optimizer.variables, model.trainable_variables)
    )
    return kept / trained


def train(trial: Trial, data: Dataset) -> Record:
    """Trains a fresh model and judges it at the end.

    Args:
        trial: What to train, and how.
        data: The data of its workload.

    Returns:
        The record. Its numbers are, unless the run was cut short by divergence,
        `final_train_`, `final_val_` and `test_`, each of `loss` and of the metric, at
        the end of training; `best_val_` of the metric, over all evaluations; and
        `test_` of the metric with a dot and the name of each slice. Of every run
        there are `initial_val_` of loss and metric, before training,
        `first_round_seconds`, the time until the first evaluation, which
        includes compilation, `step_seconds`, the time of a step after that, and
        `state_per_weight`, how many numbers the optimizer keeps for each weight.
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

    def judge(part: str, batches, names: Iterable[str] = ("loss", metric)):
        judged = model.evaluate(batches, verbose=0, return_dict=True)
        return {f"{part}_{name}": judged[name] for name in names}

    numbers = judge("initial_val", validation)
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

    numbers |= judge("final_train", evaluation_batches(data.train))
    numbers |= judge("test", evaluation_batches(data.test))
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
            part = judge("slice", batches, [metric])
            numbers[f"test_{metric}.{name}"] = part[f"slice_{metric}"]
    return trial.record("finished", started, "", numbers, curve)


def attempt(trial: Trial, data: Dataset) -> Record:
    """Trains, and makes of an exception a record of the failure.

    Args:
        trial: What to train, and how.
        data: The data of its workload.

    Returns:
        The record.
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
        gc.collect()  # models hold themselves in circles
