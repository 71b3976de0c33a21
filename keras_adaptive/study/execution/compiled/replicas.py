"""Replicas: the runs of a program, each with weights, state and batches of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import keras
import numpy as np

from keras_adaptive.datasets.dataset import Dataset
from keras_adaptive.study.execution.compiled.rates import all_numbers
from keras_adaptive.study.execution.compiled.resident import Resident
from keras_adaptive.study.execution.training import compile_model, seeded
from keras_adaptive.study.execution.trial import Trial

Arrays = list[Any]


class State(NamedTuple):
    """What a replica, or several stacked ones, carry from step to step.

    Args:
        trained: The trainable variables.
        others: The other variables of the model, such as seeds and moving averages.
        optimizer: The variables of the optimizer.
    """

    trained: Arrays
    others: Arrays
    optimizer: Arrays


class Start(NamedTuple):
    """Where a replica starts.

    Args:
        state: The initial values.
        numbers: The numbers of its schedules, see `rates`.
    """

    state: State
    numbers: list[float]


class Models:
    """The models of a workload, one for each seed.

    Args:
        data: The dataset.
        resident: Its rows on the device.
    """

    def __init__(self, data: Dataset, resident: Resident) -> None:
        self._data, self._resident = data, resident
        self._models: dict[int, keras.Model] = {}

    def template(
        self, trial: Trial, optimizer: keras.optimizers.Optimizer
    ) -> keras.Model:
        """Returns a model of its own, with loss, metrics and optimizer built."""
        model = self._compiled(self._built(trial), trial, optimizer)
        x, y = self._resident.few()
        outputs = model(x, training=False)
        model.compute_loss(x=x, y=y, y_pred=outputs, training=False)
        model.compute_metrics(x, y, outputs, sample_weight=None)
        model.reset_metrics()
        return model

    def _built(self, trial: Trial) -> keras.Model:
        x, _ = self._resident.few()
        with seeded(trial.seed):
            model = trial.workload.build(trial.seed)
            model(x, training=False)
        return model

    def _compiled(
        self, model: keras.Model, trial: Trial, optimizer: keras.optimizers.Optimizer
    ) -> keras.Model:
        compile_model(model, trial.workload, self._data, optimizer)
        model.optimizer.build(model.trainable_variables)
        return model

    def start(self, trial: Trial, optimizer: keras.optimizers.Optimizer) -> Start:
        """Returns where a run starts."""
        if trial.seed not in self._models:
            self._models[trial.seed] = self._built(trial)
        model = self._compiled(self._models[trial.seed], trial, optimizer)
        state = State(
            values(model.trainable_variables),
            values(model.non_trainable_variables),
            values(model.optimizer.variables),
        )
        return Start(state, all_numbers(optimizer))


def values(variables: Sequence[keras.Variable]) -> Arrays:
    """Returns the values of variables as arrays of NumPy."""
    return [np.asarray(variable.value) for variable in variables]


def stacked(starts: Sequence[Start]) -> tuple[State, Arrays]:
    """Returns the states and the numbers of several replicas, side by side."""

    def stack(lists: Sequence[Sequence[Any]]) -> Arrays:
        return [jnp.stack(each) for each in zip(*lists, strict=True)]

    state = State(
        *(stack(parts) for parts in zip(*(s.state for s in starts), strict=True))
    )
    return state, stack([start.numbers for start in starts])
