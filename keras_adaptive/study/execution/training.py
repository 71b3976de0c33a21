"""Trains a contender once, with one seed, by an ordinary `model.fit`."""

from __future__ import annotations

import gc
import math
import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import keras

from keras_adaptive.callbacks import EvaluateAveraged
from keras_adaptive.datasets.batches import (
    Batches,
    evaluation_batches,
    is_sparse,
    training_batches,
)
from keras_adaptive.study.design.workload import Workload
from keras_adaptive.study.execution.curve import Curve
from keras_adaptive.study.execution.outcome import (
    SLICE,
    diverged,
    end_numbers,
    failed,
    of_part,
    pruned,
)
from keras_adaptive.study.execution.recorder import Recorder, steps_per_execution
from keras_adaptive.study.execution.trial import Trial, milliseconds
from keras_adaptive.study.ledger.autologging import autologging_off
from keras_adaptive.study.ledger.record import Record

if TYPE_CHECKING:
    from keras_adaptive.datasets.dataset import Dataset


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
        that came to its end also has `final_train_`, `final_val_` and `test_` of loss
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
    curve = Curve(rows, workload.batch_size, metric)
    recorder = Recorder(curve, steps, trial.watch())
    validation = evaluation_batches(data.validation)
    numbers = of_part("initial_val", evaluated(model, validation), metric)
    with autologging_off():  # a model's module may have turned it on in this process
        model.fit(
            training_batches(data.train, workload.batch_size, trial.seed),
            epochs=math.ceil(steps / every),
            steps_per_epoch=every,
            validation_data=validation,
            callbacks=[EvaluateAveraged([model.optimizer]), recorder],
            shuffle=False,
            verbose=0,
        )
    numbers |= {
        "first_round_seconds": recorder.round_seconds[0],
        "step_seconds": recorder.step_seconds(),
        "state_per_weight": state_per_weight(model),
    }
    if curve.diverged_at is not None:
        return diverged(trial, started, numbers, curve)
    if recorder.pruned:
        return pruned(trial, started, numbers, curve, steps)
    parts = {"final_train": data.train, "test": data.test} | {
        SLICE + name: data.test.take(mask)
        for name, mask in workload.masks(data).items()
    }
    ends = {
        part: evaluated(model, evaluation_batches(rows)) for part, rows in parts.items()
    }
    numbers |= end_numbers(workload, curve, ends)
    return trial.record("finished", started, "", numbers, tuple(curve.points))


def evaluated(model: keras.Model, batches: Batches) -> Mapping[str, float]:
    """Returns loss and metric of a model on some rows."""
    return model.evaluate(batches, verbose=0, return_dict=True)


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
        return failed(trial, started, error)
    finally:
        gc.collect()  # models refer to themselves in circles
