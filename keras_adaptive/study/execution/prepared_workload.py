"""Prepared workloads: their data are loaded and everything is checked."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_adaptive.datasets.batches import evaluation_batches
from keras_adaptive.datasets.dataset import Dataset
from keras_adaptive.errors import InputError
from keras_adaptive.study.design.workload import OF_COMPILE, Budget, Steps, Workload
from keras_adaptive.study.execution.training import compile_model, seeded
from keras_adaptive.study.ledger.reach.graph import describe

TIMED_ROUNDS = 3
"""The first round compiles; the others give the time of a step."""

SLICE_NAME = re.compile(r"[A-Za-z0-9_ -]+")


@dataclass(frozen=True)
class PreparedWorkload:
    """A workload that is ready to be trained.

    Args:
        workload: The workload.
        data: Its dataset.
        budget: The length of its runs.
        description: Everything that decides its runs except contender and seed, for
            a digest.
    """

    workload: Workload
    data: Dataset
    budget: Budget
    description: dict[str, Any]

    @property
    def steps(self) -> int:
        """The training steps of a run."""
        return self.budget.steps(len(self.data.train.y), self.workload.batch_size)

    @property
    def timed_budget(self) -> Steps:
        """The length of a run that is only timed: a few rounds."""
        rows, batch_size = len(self.data.train.y), self.workload.batch_size
        every = self.budget.evaluate_every(rows, batch_size)
        return Steps(TIMED_ROUNDS * every, every)

    @classmethod
    def prepare(cls, workload: Workload, budget: Budget | None) -> PreparedWorkload:
        """Loads the data of a workload and tries its model on a few rows.

        Args:
            workload: The workload.
            budget: The budget of the protocol, if it has one.

        Raises:
            InputError: If there is no budget or no dataset, if the model cannot be
                built, or if it does not fit the data.
        """
        budget = budget or workload.budget
        if budget is None:
            raise InputError(
                f"The workload {workload.name!r} has no budget. Give it, or the "
                "protocol, one: budget=Epochs(20)."
            )
        data = workload.load()
        if not isinstance(data, Dataset):
            raise InputError(
                f"The data of the workload {workload.name!r} are {type(data)!r}. "
                "Expected a keras_adaptive.study.Dataset, or a function that returns "
                "one."
            )
        slices = checked_slices(workload, data)
        rows, batch_size = len(data.train.y), workload.batch_size
        called = f"Workload {workload.name!r}"
        # What the builder reaches is described before it runs and may change it.
        description = {
            "workload": workload.name,
            "build": describe(workload.build, f"{called}: build"),
            "data": data.digest,
            "loss": describe(_resolved_loss(workload), f"{called}: the loss"),
            "metric": [
                workload.metric_name,
                *describe_metric(workload, f"{called}: the metric"),
            ],
            "slices": describe(slices),
            "batch_size": batch_size,
            "steps": budget.steps(rows, batch_size),
            "every": budget.evaluate_every(rows, batch_size),
        }
        models = [checked_model(workload) for _ in range(2)]
        description["model"] = describe(models[0], f"{called}: the model")
        for model in models:
            with seeded(0):
                try_model(workload, data, model)
        check_repeatable(workload, models)
        description["weights"] = describe(models[0].get_weights())
        return cls(workload, data, budget, description)


def _resolved_loss(workload: Workload) -> Any:
    """Returns the loss, also if a name stands for a registered function."""
    return [workload.loss, keras.losses.get(workload.loss)]


def describe_metric(workload: Workload, called: str) -> list[str]:
    """Returns digests of what makes the metric and of the metrics that it makes.

    Args:
        workload: The workload.
        called: What the metric is called in an error.
    """
    made = [
        keras.metrics.get(each)
        if isinstance(each, str) and each not in OF_COMPILE
        else each
        for each in workload.make_metrics()
    ]
    return [describe(each, called) for each in (workload.metric, made)]


def checked_slices(workload: Workload, data: Dataset) -> dict[str, np.ndarray]:
    """Returns the slices of a workload after checking that they are masks.

    Args:
        workload: The workload.
        data: Its dataset.

    Returns:
        The masks over the test rows by name; none if the workload has no slices.

    Raises:
        InputError: If a mask does not fit the test rows or selects none of them.
    """
    rows = len(data.test.y)
    masks = {}
    for name, mask in workload.masks(data).items():
        if not SLICE_NAME.fullmatch(name):
            raise InputError(
                f"Workload {workload.name!r}: a slice is called {name!r}. Expected "
                "letters, digits, spaces, _ and -, since it is part of a metric's name."
            )
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape != (rows,) or not mask.any():
            raise InputError(
                f"Workload {workload.name!r}: the slice {name!r} is not a mask over "
                f"the {rows} test rows. Expected one True or False for each, and a "
                "True among them."
            )
        masks[name] = mask
    return masks


def checked_model(workload: Workload) -> keras.Model:
    """Builds the model of a workload with the seed 0.

    Args:
        workload: The workload.

    Raises:
        InputError: If the builder raises, or does not return an uncompiled model.
    """
    name = f"Workload {workload.name!r}: build(seed=0)"
    try:
        with seeded(0):
            model = workload.build(0)
    except Exception as error:
        raise InputError(f"{name} raises {type(error).__name__}: {error}") from error
    if not isinstance(model, keras.Model):
        raise InputError(f"{name} returns {model!r}. Expected a keras.Model.")
    if model.compiled:
        raise InputError(
            f"{name} returns a model that is compiled. Remove the call of compile: the "
            "study compiles the model with each contender and with the loss and the "
            "metric of the workload."
        )
    return model


def try_model(workload: Workload, data: Dataset, model: keras.Model) -> None:
    """Evaluates a model on a few rows, which also builds its weights.

    Args:
        workload: The workload.
        data: Its dataset.
        model: The model, uncompiled.

    Raises:
        InputError: If the model does not fit the data, the loss or the metric.
    """
    what = (
        f"Workload {workload.name!r}: the model, the data, the loss {workload.loss!r} "
        f"and the metric {workload.metric_name!r} do not go together"
    )
    y = data.train.y
    rows = np.unique([0, len(y) // 2, len(y) - 1, y.argmin(), y.argmax()])
    few = data.train.take(rows[rows < len(y)])
    optimizer = keras.optimizers.SGD()
    try:
        compile_model(model, workload, data, optimizer, run_eagerly=True)
        measured = model.evaluate(evaluation_batches(few), verbose=0, return_dict=True)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{what}: {type(error).__name__}: {error}") from error
    for name in ("loss", workload.metric_name):
        if not math.isfinite(measured[name]):
            raise InputError(
                f"{what}: before training, the {name} of {len(few.y)} rows is "
                f"{measured[name]}. Expected a finite number."
            )


def check_repeatable(workload: Workload, models: Sequence[keras.Model]) -> None:
    """Checks that two models that were built with one seed have equal weights.

    Args:
        workload: The workload.
        models: The two models.

    Raises:
        InputError: If their weights differ.
    """
    first, second = (model.get_weights() for model in models)
    for one, other, variable in zip(first, second, models[0].weights, strict=True):
        if not np.array_equal(one, other):
            raise InputError(
                f"Workload {workload.name!r}: two models from build(seed=0) have other "
                f"initial weights in {variable.path!r}. Give the seed to the "
                "initializers, so that all contenders start from the same point."
            )
