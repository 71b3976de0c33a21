"""DoG, LDoG and DoWG: the distance travelled sets the learning rate."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.contract import (
    NON_NEGATIVE,
    PACKAGE,
    PARAMETER,
    POSITIVE,
    LearningRate,
    Slot,
    hyperparameter,
)
from keras_adaptive.optimizers.contract.norms import squared_norm

DENSE_ONLY = (
    "distances and norms are those of whole variables; for large tables use Adam or "
    "Adagrad with sparse='deferred'."
)


class _Distance(AdaptiveOptimizer):
    """DoG of all variables together or of each on its own."""

    dense_only = DENSE_ONLY

    def local_stats(self, gradient, state, hyper):
        return {
            "start": squared_norm(state["start"]),
            "moved": squared_norm(hyper.parameter - state["start"]),
            "gradient": squared_norm(gradient),
        }

    def reduce_stats(self, sums, shared, hyper):
        first = hyper.reps_rel * (1 + ops.sqrt(sums["start"]))
        distance = ops.where(hyper.step == 1, first, shared["distance"])
        return {
            "distance": ops.maximum(distance, ops.sqrt(sums["moved"])),
            "gradients": shared["gradients"] + sums["gradient"],
        }

    def _rate(self, shared, hyper):
        denominator = ops.sqrt(shared["gradients"] + hyper.epsilon)
        return hyper.learning_rate * shared["distance"] / denominator


@keras.saving.register_keras_serializable(PACKAGE)
class DoG(_Distance):
    """DoG: SGD whose learning rate is distance over gradients.

    With the gradient g of all variables together at step t, the weights x and their
    initial values x₀:

        r ← max(r, ‖x - x₀‖),  at the first step r = r_ε (1 + ‖x₀‖)
        v ← v + ‖g‖²
        x ← x - η r / √(v + ε) · g

    The factor η is 1 in the paper. The authors evaluate an average of the weights:
    `use_ema=True` is the nearest base option.

    When to use: fine-tuning and convex problems, with no learning rate to search. Not
        for training deep networks from scratch, where a tuned Adam usually wins. What
        matters: averaging the weights; `reps_rel` only if the start is too slow.

    x₀ is what the weights are when the optimizer is built.

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

    learning_rate: LearningRate = hyperparameter(1.0, doc="The factor η")
    reps_rel: float = hyperparameter(
        1e-6, POSITIVE, "r_ε, the size of the first step relative to the weights."
    )
    epsilon: float = hyperparameter(
        1e-8, NON_NEGATIVE, "Keeps the denominator away from zero; inside the root."
    )

    slots = {"start": Slot(PARAMETER)}
    global_slots = {"distance": Slot(), "gradients": Slot()}
    dense_only = DENSE_ONLY

    def rule(self, gradient, state, hyper):
        return self._rate(hyper.global_state, hyper) * gradient, state


@keras.saving.register_keras_serializable(PACKAGE)
class LDoG(_Distance):
    """LDoG: DoG for each variable on its own.

    As `DoG`, but r and v are those of one variable. The authors prefer it for
    fine-tuning transformers.

    When to use: as `DoG`, for networks whose layers differ in scale, such as
        transformers. Not for variables that start at the solution or that hardly get
        gradients: each needs its own time to speed up. What matters: as `DoG`.

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

    learning_rate: LearningRate = hyperparameter(1.0, doc="The factor η")
    reps_rel: float = hyperparameter(
        1e-6, POSITIVE, "r_ε, the size of the first step relative to the weights."
    )
    epsilon: float = hyperparameter(
        1e-8, NON_NEGATIVE, "Keeps the denominator away from zero; inside the root."
    )

    slots = {
        "start": Slot(PARAMETER),
        "distance": Slot(shape_of=lambda shape: ()),
        "gradients": Slot(shape_of=lambda shape: ()),
    }

    def rule(self, gradient, state, hyper):
        new = self.reduce_stats(self.local_stats(gradient, state, hyper), state, hyper)
        return self._rate(new, hyper) * gradient, {**state, **new}


@keras.saving.register_keras_serializable(PACKAGE)
class DoWG(AdaptiveOptimizer):
    """DoWG: DoG whose gradients are weighted by the distance at their time.

    With the gradient g of all variables together, the weights x and their initial
    values x₀:

        r² ← max(r², ‖x - x₀‖²)
        v ← v + r² ‖g‖²
        x ← x - η r² / (√v + ε) · g

    As r grows, early gradients lose their weight in v. The paper has no factor η.

    When to use: as `DoG`, when the gradients at the start are much larger than later
        ones. Not for training deep networks from scratch; it has been tested less than
        DoG. What matters: `init_estim_sq_dist`, as r never shrinks.

    x₀ is what the weights are when the optimizer is built.

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

    learning_rate: LearningRate = hyperparameter(1.0, doc="The factor η")
    init_estim_sq_dist: float = hyperparameter(1e-4, POSITIVE, "The r² to start from.")
    epsilon: float = hyperparameter(
        1e-4, NON_NEGATIVE, "Keeps the denominator away from zero; outside the root."
    )

    slots = {"start": Slot(PARAMETER)}
    dense_only = DENSE_ONLY

    @property
    def global_slots(self):
        return {
            "squared_distance": Slot(self.init_estim_sq_dist),
            "weighted_gradients": Slot(),
        }

    def local_stats(self, gradient, state, hyper):
        return {
            "moved": squared_norm(hyper.parameter - state["start"]),
            "gradient": squared_norm(gradient),
        }

    def reduce_stats(self, sums, shared, hyper):
        distance = ops.maximum(shared["squared_distance"], sums["moved"])
        gradients = shared["weighted_gradients"] + distance * sums["gradient"]
        return {"squared_distance": distance, "weighted_gradients": gradients}

    def rule(self, gradient, state, hyper):
        distance = hyper.global_state["squared_distance"]
        denominator = ops.sqrt(hyper.global_state["weighted_gradients"]) + hyper.epsilon
        return hyper.learning_rate * distance / denominator * gradient, state
