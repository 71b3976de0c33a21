"""Defaults for a first look at a dataset: workload, loss, metric and contenders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from keras_adaptive.datasets.dataset import Dataset
from keras_adaptive.study.design.contender import Contender
from keras_adaptive.study.design.default_models import default_model
from keras_adaptive.study.design.grid import half_decades_around
from keras_adaptive.study.design.protocol import MOMENTUM
from keras_adaptive.study.design.workload import Budget, Workload

FEW_ROWS = 5_000
"""Below this number of training rows batches are small, for enough steps an epoch."""

SMALL_BATCH, BATCH = 32, 128

CENTRES = {
    MOMENTUM.label: 0.03,
    "adagrad": 0.1,
    "rmsprop": 0.003,
    "adam": 0.003,
    "adamw": 0.003,
}
"""Centres of the grids of learning rates; Keras's defaults are often far off."""


def default_loss(data: Dataset) -> keras.losses.Loss:
    """Returns the loss for `default_model`.

    Args:
        data: The dataset.
    """
    if data.task == "regression":
        return keras.losses.MeanSquaredError()
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def default_metric(data: Dataset) -> str:
    """Returns the name of the metric for `default_model`, as `compile` takes it.

    Args:
        data: The dataset.
    """
    return "root_mean_squared_error" if data.task == "regression" else "accuracy"


def default_batch_size(data: Dataset) -> int:
    """Returns 32 for a dataset of fewer than 5,000 training rows, else 128.

    Args:
        data: The dataset.
    """
    return SMALL_BATCH if len(data.train.y) < FEW_ROWS else BATCH


def default_workload(
    data: Dataset,
    budget: Budget | None = None,
    slices: Callable[[Dataset], Mapping[str, np.ndarray]] | None = None,
) -> Workload:
    """Returns a workload for a dataset: a small model with the loss and metric.

    Args:
        data: The dataset.
        budget: The length of training; `None` for the protocol's budget.
        slices: Parts of the test rows that also get a metric of their own.

    Raises:
        InputError: If there is no default model for this kind of data.

    Example:
        >>> from keras_adaptive.datasets.bundled import load_diabetes
        >>> workload = default_workload(load_diabetes())
        >>> workload.metric, workload.direction, workload.batch_size
        ('root_mean_squared_error', 'min', 32)
    """
    return Workload(
        data.name,
        build=default_model(data),
        data=data,
        loss=default_loss(data),
        metric=default_metric(data),
        batch_size=default_batch_size(data),
        budget=budget,
        slices=slices,
    )


def default_contenders(names: Sequence[str], trials: int) -> list[Contender]:
    """Returns contenders with grids of one size, around rates that often work.

    Args:
        names: Optimizers of ours, or of Keras with the prefix `keras/`. SGD with
            momentum comes first and always takes part. The grid of an optimizer that
            is not in `CENTRES` lies around its own default.
        trials: The number of learning rates in a grid.

    Raises:
        InputError: If there is no such optimizer.

    Example:
        >>> [each.label for each in default_contenders(["adam"], trials=5)]
        ['keras/sgd-momentum', 'adam']
    """
    centres = CENTRES | {f"keras/{name}": centre for name, centre in CENTRES.items()}
    return [
        Contender(
            MOMENTUM.optimizer if name == MOMENTUM.label else name,
            half_decades_around(centres[name], trials) if name in centres else None,
            label=name,
        )
        for name in dict.fromkeys([MOMENTUM.label, *names])
    ]
