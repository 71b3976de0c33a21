"""DoG, LDoG and DoWG: the distance travelled sets the learning rate."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.contract import (
    NON_NEGATIVE,
    PACKAGE,
    PARAMETER,
    POSITIVE,
    Hyper,
    LearningRate,
    Slot,
    State,
    hyperparameter,
)
from keras_adaptive.optimizers.contract.norms import squared_norm

DENSE_ONLY = (
    "distances and norms are those of whole variables; for large tables use Adam or "
    "Adagrad with sparse='deferred'."
)


class _Distance(AdaptiveOptimizer):
    """The common part of DoG, for all variables together or for each alone."""

    dense_only = DENSE_ONLY

    def local_stats(self, gradient: Any, state: State, hyper: Hyper) -> State:
        return {
            "start": squared_norm(state["start"]),
            "moved": squared_norm(hyper.parameter - state["start"]),
            "gradient": squared_norm(gradient),
        }

    def reduce_stats(self, sums: State, old: State, hyper: Hyper) -> State:
        first = hyper.reps_rel * (1 + ops.sqrt(sums["start"]))
        distance = ops.where(hyper.step == 1, first, old["distance"])
        return {
            "distance": ops.maximum(distance, ops.sqrt(sums["moved"])),
            "gradients": old["gradients"] + sums["gradient"],
        }

    def _rate(self, stats: State, hyper: Hyper) -> Any:
        denominator = ops.sqrt(stats["gradients"] + hyper.epsilon)
        return hyper.learning_rate * stats["distance"] / denominator


@keras.saving.register_keras_serializable(PACKAGE)
class DoG(_Distance):
    """DoG: SGD with a learning rate of distance over gradients.

    With the gradient g of all variables together at step t, the weights x and their
    initial values x₀:

        r ← max(r, ‖x - x₀‖),  at the first step r = r_ε (1 + ‖x₀‖)
        v ← v + ‖g‖²
        x ← x - η r / √(v + ε) · g

    The factor η is 1 in the paper. With η = 1 a step decays the weights by the whole
    `weight_decay`. The authors evaluate an average of the weights; the nearest base
    option is `use_ema=True`.

    When to use: fine-tuning and convex problems, without a search for the learning
        rate. Not for training deep networks from scratch, where a tuned Adam usually
        wins. What matters: averaging the weights; `reps_rel` only if the start is too
        slow.

    x₀ are the weights at the time the optimizer is built.

    Sparse gradients: always `"dense"`, since the norms take every row.

    Raises:
        ValueError: As `AdaptiveOptimizer`; also if `sparse` is not `"dense"`.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.DoG(use_ema=True), "mse")

    References:

    - [Ivgi et al., 2023](https://arxiv.org/abs/2302.12022)
    """

    learning_rate: LearningRate = hyperparameter(
        doc="η, a factor of the estimated rate: a float, a schedule, or a callable.",
        default=1.0,
    )
    reps_rel: float = hyperparameter(
        POSITIVE,
        "r_ε, the size of the first step relative to the weights.",
        default=1e-6,
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE,
        "ε, keeps the denominator away from zero, inside the root.",
        default=1e-8,
    )

    slots = {"start": Slot(PARAMETER)}
    global_slots = {"distance": Slot(), "gradients": Slot()}

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        return self._rate(hyper.global_state, hyper) * gradient, state


@keras.saving.register_keras_serializable(PACKAGE)
class LDoG(_Distance):
    """LDoG: DoG for each variable on its own.

    The rule is that of `DoG`, with an r and a v for each variable. The authors prefer
    it for fine-tuning transformers.

    When to use: as `DoG`, for networks whose layers differ in scale, such as
        transformers. Not for variables that start at the solution or that hardly get
        gradients: each takes its own time to speed up. What matters: as `DoG`.

    Sparse gradients: always `"dense"`, since the norms take every row.

    Raises:
        ValueError: As `DoG`.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.LDoG(use_ema=True), "mse")

    References:

    - [Ivgi et al., 2023](https://arxiv.org/abs/2302.12022)
    """

    learning_rate: LearningRate = hyperparameter(
        doc="η, a factor of the estimated rate: a float, a schedule, or a callable.",
        default=1.0,
    )
    reps_rel: float = hyperparameter(
        POSITIVE,
        "r_ε, the size of the first step relative to the weights.",
        default=1e-6,
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE,
        "ε, keeps the denominator away from zero, inside the root.",
        default=1e-8,
    )

    slots = {
        "start": Slot(PARAMETER),
        "distance": Slot(shape_of=lambda shape: ()),
        "gradients": Slot(shape_of=lambda shape: ()),
    }

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        new = self.reduce_stats(self.local_stats(gradient, state, hyper), state, hyper)
        return self._rate(new, hyper) * gradient, {**state, **new}


@keras.saving.register_keras_serializable(PACKAGE)
class DoWG(AdaptiveOptimizer):
    """DoWG: DoG with gradients that are weighted by the distance at their time.

    With the gradient g of all variables together, the weights x and their initial
    values x₀:

        r² ← max(r², ‖x - x₀‖²)
        v ← v + r² ‖g‖²
        x ← x - η r² / (√v + ε) · g

    As r grows, early gradients lose their weight in v. The paper has no factor η, which
    is η = 1. With η = 1 a step decays the weights by the whole `weight_decay`.

    When to use: as `DoG`, when the gradients at the start are much larger than later
        ones. Not for training deep networks from scratch; DoWG has been tested less
        than DoG. What matters: `init_estim_sq_dist`, as r never shrinks.

    x₀ are the weights at the time the optimizer is built.

    Sparse gradients: always `"dense"`, since the norms take every row.

    Raises:
        ValueError: As `AdaptiveOptimizer`; also if `sparse` is not `"dense"`.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.DoWG(), "mse")

    References:

    - [Khaled et al., 2023](https://arxiv.org/abs/2305.16284)
    """

    learning_rate: LearningRate = hyperparameter(
        doc="η, a factor of the estimated rate: a float, a schedule, or a callable.",
        default=1.0,
    )
    init_estim_sq_dist: float = hyperparameter(
        POSITIVE, "The r² at the start.", default=1e-4
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE, "ε, the smallest denominator, outside the root.", default=1e-4
    )

    slots = {"start": Slot(PARAMETER)}
    dense_only = DENSE_ONLY

    @property
    def global_slots(self) -> dict[str, Slot]:
        return {
            "squared_distance": Slot(self.init_estim_sq_dist),
            "weighted_gradients": Slot(),
        }

    def local_stats(self, gradient: Any, state: State, hyper: Hyper) -> State:
        return {
            "moved": squared_norm(hyper.parameter - state["start"]),
            "gradient": squared_norm(gradient),
        }

    def reduce_stats(self, sums: State, old: State, hyper: Hyper) -> State:
        distance = ops.maximum(old["squared_distance"], sums["moved"])
        gradients = old["weighted_gradients"] + distance * sums["gradient"]
        return {"squared_distance": distance, "weighted_gradients": gradients}

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        distance = hyper.global_state["squared_distance"]
        denominator = ops.sqrt(hyper.global_state["weighted_gradients"]) + hyper.epsilon
        return hyper.learning_rate * distance / denominator * gradient, state
