"""LARS."""

from __future__ import annotations

from typing import Any

import keras

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.norms import trust_ratio
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    PACKAGE,
    POSITIVE,
    Hyper,
    LearningRate,
    Slot,
    State,
    hyperparameter,
)
from keras_adaptive.optimizers.contract.norms import norm


@keras.saving.register_keras_serializable(PACKAGE)
class LARS(AdaptiveOptimizer):
    """LARS: SGD with momentum and one rate per variable, for large batches.

    With the gradient g, the momentum m and its decay rate μ, the learning rate η, the
    weight decay λ and the trust coefficient κ:

        r = κ ‖w‖ / (‖g‖ + λ ‖w‖ + ε)
        m ← μ m + r (g + λ w)
        w ← w - η m

    The norms are those of the whole variable, and r is 1 if ‖w‖ or ‖g‖ is 0. With
    `nesterov=True` the last line is w ← w - η (r (g + λ w) + μ m). The paper has η
    inside m, which makes a difference when the learning rate changes. Every variable
    has its own r, also vectors.

    When to use: for convolutional networks with very large batches, where SGD works
        well. Avoid it for transformers (use `Lamb`) and for small batches. What
        matters: `learning_rate` with warmup and decay (it multiplies
        `trust_coefficient`), and `weight_decay`, from which biases and normalization
        layers are best excluded.

    Sparse gradients: `"dense"` only, because the norms need the whole variable.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> optimizer = keras_adaptive.optimizers.LARS(2.0, weight_decay=0.0001)
    >>> model.compile(optimizer, "mse")

    References:

    - [You et al., 2017](https://arxiv.org/abs/1708.03888)
    """

    learning_rate: LearningRate = hyperparameter(default=1.0)
    momentum: float = hyperparameter(
        DECAY_RATE, "μ, decay rate of the momentum.", default=0.9
    )
    trust_coefficient: float = hyperparameter(
        POSITIVE, "κ, the factor of r.", default=0.001
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE, "ε, added to the denominator.", default=0.0
    )
    nesterov: bool = hyperparameter(doc="Uses Nesterov's momentum.", default=False)

    slots = {"momentum": Slot()}
    dense_only = (
        "it needs the norms of whole variables. Use sparse='dense', or for large "
        "tables Adagrad or Adam."
    )

    def decayed(self, parameter: Any, hyper: Hyper) -> Any:
        return parameter

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        size, slope = norm(hyper.parameter), norm(gradient)
        ratio = trust_ratio(
            hyper.trust_coefficient * size,
            slope + hyper.weight_decay * size + hyper.epsilon,
            (size > 0) & (slope > 0),
        )
        step = ratio * (gradient + hyper.weight_decay * hyper.parameter)
        m = hyper.momentum * state["momentum"] + step
        ahead = step + hyper.momentum * m if self.nesterov else m
        return hyper.learning_rate * ahead, {"momentum": m}
