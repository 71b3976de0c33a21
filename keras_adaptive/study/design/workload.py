"""Workloads: a model, data, a loss, a metric and a budget."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import keras
import numpy as np

from keras_adaptive.errors import InputError, counted, did_you_mean, named
from keras_adaptive.plain_numbers import make_plain

if TYPE_CHECKING:
    from keras_adaptive.datasets.dataset import Dataset

MORE_IS_BETTER = (
    *("acc", "accuracy", "auc", "correlation", "f1", "fbeta", "iou", "precision"),
    *("r2", "recall", "sensitivity", "similarity", "specificity"),
)
LESS_IS_BETTER = (
    *("bce", "ce", "crossentropy", "divergence", "error", "hinge", "kld", "loss"),
    *("mae", "mape", "mse", "msle", "poisson", "rmse"),
)
OF_COMPILE = ("loss", "accuracy", "acc", "crossentropy", "ce")
"""The loss, and the metrics that Keras resolves when it compiles the model."""

EVALUATIONS = 20
"""The default number of evaluations of a run with a budget in steps."""


@dataclass(frozen=True)
class Epochs:
    """A budget of passes over the training data, each followed by an evaluation.

    Args:
        count: The number of passes.

    Raises:
        InputError: If the count is not a whole number above 0.

    Example:
        >>> Epochs(3).steps(rows=100, batch_size=32)
        12
    """

    count: int

    def __post_init__(self) -> None:
        """Checks the count."""
        make_plain(self, "count")
        counted("Epochs", self.count)

    def steps(self, rows: int, batch_size: int) -> int:
        """Returns the number of training steps."""
        return self.count * self.evaluate_every(rows, batch_size)

    def evaluate_every(self, rows: int, batch_size: int) -> int:
        """Returns the number of training steps between two evaluations."""
        return math.ceil(rows / batch_size)


@dataclass(frozen=True)
class Steps:
    """A budget of training steps.

    Args:
        count: The number of steps.
        every: Steps between two evaluations on the validation data; `None` for
            twenty evaluations a run. The last step is always evaluated.

    Raises:
        InputError: If one of them is not a whole number above 0.

    Example:
        >>> Steps(1000).evaluate_every(rows=100, batch_size=32)
        50
    """

    count: int
    every: int | None = None

    def __post_init__(self) -> None:
        """Checks the counts."""
        make_plain(self, "count", "every")
        counted("Steps", self.count)
        if self.every is not None:
            counted("Steps(every)", self.every)

    def steps(self, rows: int, batch_size: int) -> int:
        """Returns the number of training steps."""
        return self.count

    def evaluate_every(self, rows: int, batch_size: int) -> int:
        """Returns the number of training steps between two evaluations."""
        return min(self.every or math.ceil(self.count / EVALUATIONS), self.count)


Budget = Epochs | Steps
Direction = Literal["max", "min"]


@dataclass(frozen=True)
class Workload:
    """A model and data on which contenders are compared.

    Args:
        name: The name in tables and in MLflow.
        build: Makes an uncompiled model from a seed, which decides the initial
            weights. Python's `random` is seeded while it runs and restored afterwards,
            so a builder that uses Keras's default initializers without seeds is
            repeatable too.
        data: The dataset, or a function without arguments that returns it.
        loss: A loss as `compile` takes it: its name, an object or a function.
        metric: The metric that decides: its name, `"loss"`, or a function without
            arguments that makes a `keras.metrics.Metric`, such as the class itself.
        direction: `"max"` or `"min"`; `None` derives it from the name of the metric.
        batch_size: The number of rows in a training batch.
        budget: The length of training; `None` for the protocol's budget.
        slices: Parts of the test rows that also get a metric of their own: a function
            from the dataset to named boolean masks over the test rows.

    Raises:
        InputError: If the metric does not exist, if its direction is not known, or if
            an argument has the wrong type.

    Example:
        >>> def build(seed):
        ...     return keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
        >>> Workload(
        ...     "digits",
        ...     build=build,
        ...     data=lambda: ...,
        ...     loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        ...     budget=Epochs(20),
        ... ).direction
        'max'
    """

    name: str
    build: Callable[[int], keras.Model]
    data: Dataset | Callable[[], Dataset]
    loss: str | Callable
    metric: str | Callable[[], keras.metrics.Metric] = "accuracy"
    direction: Direction | None = None
    batch_size: int = 128
    budget: Budget | None = None
    slices: Callable[[Dataset], Mapping[str, np.ndarray]] | None = None

    def __post_init__(self) -> None:
        """Checks the arguments and derives the direction from the metric."""
        named("A workload", self.name)
        if not callable(self.build):
            raise InputError(
                f"Workload {self.name!r}: build is {self.build!r}. Expected a function "
                "from a seed to an uncompiled keras.Model."
            )
        make_plain(self, "batch_size")
        counted(f"Workload {self.name!r}: batch_size", self.batch_size)
        if self.budget is not None and not isinstance(self.budget, Budget):
            raise InputError(
                f"Workload {self.name!r}: budget is {self.budget!r}. Expected "
                "Epochs(n) or Steps(n)."
            )
        try:
            keras.losses.get(self.loss)
        except (ValueError, TypeError) as error:
            known = [name for name in dir(keras.losses) if name.islower()]
            raise InputError(
                f"Workload {self.name!r}: Keras has no loss {self.loss!r}. Expected "
                "the name of one, a keras.losses.Loss, or a function of labels and "
                f"predictions.{did_you_mean(str(self.loss), known)}"
            ) from error
        if self.direction is None:
            object.__setattr__(self, "direction", self._direction_by_name())
        if self.direction not in ("max", "min"):
            raise InputError(
                f"Workload {self.name!r}: direction is {self.direction!r}. Expected "
                "'max' if more of the metric is better, 'min' if less is."
            )

    @property
    def metric_direction(self) -> Direction:
        """The direction of the metric, as given or as its name tells."""
        assert self.direction is not None
        return self.direction

    def _direction_by_name(self) -> Direction:
        words = set(self.metric_name.split("_"))
        if words & set(MORE_IS_BETTER):
            return "max"
        if words & set(LESS_IS_BETTER):
            return "min"
        raise InputError(
            f"Workload {self.name!r}: the name of the metric {self.metric_name!r} does "
            "not tell whether more or less of it is better. Give direction='max' or "
            "direction='min'."
        )

    @cached_property
    def metric_name(self) -> str:
        """The name of the metric in MLflow, without the number that Keras may append.

        Raises:
            InputError: If the metric does not exist.
        """
        if isinstance(self.metric, str):
            if self.metric not in OF_COMPILE:
                self._require_metric(self.metric)
            return self.metric
        if not callable(self.metric) or isinstance(self.metric, keras.metrics.Metric):
            made = [self.metric, None]
        else:
            made = [self.metric(), self.metric()]
        if not all(isinstance(each, keras.metrics.Metric) for each in made):
            raise InputError(
                f"Workload {self.name!r}: metric is {self.metric!r}. Expected a name, "
                "or a function without arguments that makes a keras.metrics.Metric: "
                "each run needs its own."
            )
        first, second = (each.name for each in made)
        return first if first == second else re.sub(r"_\d+$", "", second)

    def _require_metric(self, metric: str) -> None:
        try:
            keras.metrics.get(metric)
        except (ValueError, TypeError) as error:
            known = [*OF_COMPILE, *filter(str.islower, dir(keras.metrics))]
            raise InputError(
                f"Workload {self.name!r}: Keras has no metric {metric!r}. "
                "Expected 'loss', the name of a metric, or a function without "
                "arguments that makes a keras.metrics.Metric."
                + did_you_mean(metric, known)
            ) from error

    def make_metrics(self) -> list[str | keras.metrics.Metric]:
        """Returns the metrics for `compile`, without the loss."""
        if self.metric == "loss":
            return []
        if isinstance(self.metric, str):
            return [self.metric]
        metric = self.metric()
        metric.name = self.metric_name
        return [metric]

    def masks(self, data: Dataset) -> Mapping[str, np.ndarray]:
        """Returns the masks over the test rows of `data` by the names of the slices."""
        return self.slices(data) if self.slices else {}

    def load(self) -> Dataset:
        """Returns the dataset."""
        return self.data() if callable(self.data) else self.data
