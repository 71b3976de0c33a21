"""Compare optimizers on a model and data of your own, and say which one to take.

On the command line this is `keras-adaptive compare`. In Python, `comparison` makes the
study, and `Results.recommendation` recommends an optimizer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import keras
import numpy as np

from keras_adaptive.datasets.batches import evaluation_batches, is_sparse
from keras_adaptive.datasets.dataset import Dataset
from keras_adaptive.datasets.rare import rare_slice
from keras_adaptive.errors import InputError
from keras_adaptive.study.design.defaults import (
    default_batch_size,
    default_contenders,
    default_workload,
)
from keras_adaptive.study.design.protocol import MOMENTUM, Protocol
from keras_adaptive.study.design.workload import Epochs, Workload
from keras_adaptive.study.execution.compiled.executor import has_jax
from keras_adaptive.study.execution.prepared_workload import checked_model
from keras_adaptive.study.execution.runner import Runner
from keras_adaptive.study.study import Study

OPTIMIZERS = ("adagrad", "rmsprop", "adam", "adamw")
"""The optimizers that are compared by default, besides SGD with momentum."""

FULL = Protocol(tuning_seeds=6, seeds=10, budget=Epochs(20))
"""Enough seeds to decide each of the four promises."""

QUICK = Protocol(tuning_trials=5, tuning_seeds=1, seeds=3, budget=Epochs(5))
"""For a first look by `fit`, with too few seeds to decide anything."""

QUICK_COMPILED = replace(QUICK, tuning_seeds=6, seeds=10)
"""For a first look with compiled runs, enough of which decide and cost little."""

LOOKED_AT = 256
"""The number of training rows that tell whether a model gives probabilities."""

Build = Callable[..., keras.Model]
Metric = str | Callable[[], keras.metrics.Metric]
Slices = Callable[[Dataset], Mapping[str, np.ndarray]]


def comparison(
    data: Dataset,
    build: Build | None = None,
    optimizers: Sequence[str] = OPTIMIZERS,
    protocol: Protocol = FULL,
    loss: str | Callable | None = None,
    metric: Metric | None = None,
) -> Study:
    """Makes the study of optimizers on one model and one dataset.

    Args:
        data: The dataset.
        build: Makes the uncompiled model, from a seed or without arguments; `None` for
            a small model that fits the data.
        optimizers: Names of the optimizers, as for a `Contender`. SGD with momentum is
            the reference and always takes part.
        protocol: How they are tuned and judged; `FULL`, `quick_protocol(data)` or
            another.
        loss: The loss; `None` for the one that fits the task and the outputs of the
            model, which may be probabilities, logits or numbers.
        metric: The metric that decides; `None` for the accuracy of a classification
            and the root mean squared error of a regression.

    Returns:
        The study. If the data have rare features, the test rows that depend on them
        get a metric of their own.

    Raises:
        InputError: If an optimizer does not exist, if the model cannot be built or does
            not fit the data, or if there is no default model for such data.

    Example:
        >>> from keras_adaptive.datasets.bundled import load_wine
        >>> study = comparison(load_wine(), optimizers=["adam"], protocol=QUICK)
        >>> study.title, [each.label for each in study.contenders]
        ('compare on wine', ['keras/sgd-momentum', 'adam'])
    """
    if not optimizers:
        raise InputError(
            "There are no optimizers to compare. Expected at least one name, such as "
            "'adam'."
        )
    contenders = default_contenders(optimizers, protocol.tuning_trials)
    if protocol.reference == MOMENTUM:
        protocol = replace(protocol, reference=MOMENTUM.label)
    if build is None:
        workload = default_workload(data, slices=rare_part(data))
    else:
        workload = fitting_workload(data, build)
    if loss is not None:
        workload = replace(workload, loss=loss)
    if metric is not None:
        workload = replace(workload, metric=metric, direction=None)
    return Study("compare", [workload], contenders, protocol)


def quick_protocol(data: Dataset, runner: Runner = "auto") -> Protocol:
    """Returns the protocol of a first look, `QUICK_COMPILED` if runs can be compiled.

    They can if JAX is installed and the features are dense. Images get `QUICK`, since
    convolutions are not compiled on a CPU.

    Args:
        data: The dataset.
        runner: How the runs are made, see `Study.run`.
    """
    x = data.train.x
    if runner == "fit" or not has_jax() or is_sparse(x):
        return QUICK
    inputs = x.values() if isinstance(x, Mapping) else [x]
    are_images = any(np.ndim(each) > 2 for each in inputs)
    return QUICK if are_images else QUICK_COMPILED


def rare_part(data: Dataset) -> Slices | None:
    """Returns the slice of rows with rare features, `None` if there are none."""
    try:
        rare_slice(data)
    except InputError:
        return None
    return rare_slice


def fitting_workload(data: Dataset, build: Build) -> Workload:
    """Returns a workload for a model, with the loss and metric that fit its outputs.

    Args:
        data: The dataset.
        build: Makes the uncompiled model, from a seed or without arguments.

    Raises:
        InputError: If the model cannot be built, or its outputs do not fit the data.
    """
    called = getattr(build, "__name__", type(build).__name__)
    workload = Workload(
        f"{data.name}, {called}",
        build=from_seed(build),
        data=data,
        loss="mse",
        metric="loss",
        batch_size=default_batch_size(data),
        slices=rare_part(data),
    )
    loss, metric = objective(checked_model(workload), data)
    return replace(workload, loss=loss, metric=metric, direction=None)


def from_seed(build: Build) -> Callable[[int], keras.Model]:
    """Returns a builder that takes a seed, from one that may not.

    Args:
        build: A function with a parameter called `seed`, with one parameter, or that
            can be called without arguments. In the last case the study seeds Keras's
            initializers (see `Workload`).

    Raises:
        InputError: If the function needs other arguments.

    Example:
        >>> from_seed(lambda: "a model")(0), from_seed(lambda seed: seed)(3)
        ('a model', 3)
    """
    parameters = inspect.signature(build).parameters.values()
    needed = [
        each.name
        for each in parameters
        if each.default is each.empty
        and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    if any(each.name == "seed" for each in parameters) and set(needed) <= {"seed"}:
        return lambda seed: build(seed=seed)
    if not needed:
        return lambda seed: build()
    if len(needed) == 1:
        return build
    raise InputError(
        f"The model builder needs the arguments {', '.join(needed)}. Expected a "
        "function from a seed, or without arguments, to an uncompiled keras.Model."
    )


def objective(model: keras.Model, data: Dataset) -> tuple[keras.losses.Loss, Metric]:
    """Returns the loss and the metric that fit a task and a model's outputs.

    Args:
        model: The model.
        data: The dataset.

    Raises:
        InputError: If the model does not take the data, or if no loss fits its
            outputs.
    """
    few = data.train.take(np.arange(min(LOOKED_AT, len(data.train.y))))
    try:
        outputs = model.predict(evaluation_batches(few), verbose=0)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"The model cannot be called with {data.describe()}: "
            f"{type(error).__name__}: {error}"
        ) from error
    shape = getattr(outputs, "shape", (0,))[1:]
    classes = len(data.classes)
    if data.task == "regression":
        if shape in ((*data.train.y.shape[1:], 1), data.train.y.shape[1:]):
            return keras.losses.MeanSquaredError(), "root_mean_squared_error"
        expected = "one number a row"
    elif shape == (classes,):
        return _one_output_a_class(outputs)
    elif shape == (1,) and classes == 2:
        return _one_output_for_two_classes(outputs)
    else:
        expected = f"{classes} a row, one for each class"
        if classes == 2:
            expected += ", or 1 for the two classes"
    given = (
        " × ".join(map(str, shape)) if isinstance(outputs, np.ndarray) else "several"
    )
    raise InputError(
        f"The model's outputs do not fit {data.name}. Expected {expected}, but it "
        f"gives {given}. Change its last layer."
    )


def _one_output_a_class(outputs: np.ndarray) -> tuple[keras.losses.Loss, Metric]:
    summed = np.allclose(outputs.sum(axis=-1), 1, atol=1e-3)
    logits = not (summed and (outputs >= 0).all())
    return keras.losses.SparseCategoricalCrossentropy(from_logits=logits), "accuracy"


def _one_output_for_two_classes(
    outputs: np.ndarray,
) -> tuple[keras.losses.Loss, Metric]:
    logits = not ((outputs >= 0) & (outputs <= 1)).all()
    half = 0.0 if logits else 0.5
    accuracy = partial(keras.metrics.BinaryAccuracy, "accuracy", threshold=half)
    return keras.losses.BinaryCrossentropy(from_logits=logits), accuracy
