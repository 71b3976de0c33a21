"""AdaGrad."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.contract import (
    NON_NEGATIVE,
    PACKAGE,
    Hyper,
    LearningRate,
    Slot,
    State,
    hyperparameter,
    standing_still,
)


@keras.saving.register_keras_serializable(PACKAGE)
class Adagrad(AdaptiveOptimizer):
    """AdaGrad: each entry's rate falls with the gradients that it has seen.

    With the gradient g, the accumulator a and the learning rate η:

        a ← a + g²
        w ← w - η g / √(a + ε)

    Rare features keep a high rate, and frequent ones get a low one. The accumulator
    never forgets, so the rate of every entry goes to zero.

    When to use: sparse features (bags of words, recommenders), where a rare feature
        should still take large steps when it comes; with `row_wise=True` for the
        largest tables. Not for long training of deep networks, whose rates die out.
        What matters: `learning_rate`.

    Sparse gradients: a row with zero gradients stands still, so `"deferred"`, `"lazy"`
    and `"dense"` are the same without weight decay and moving average.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.layers.Embedding(1000, 8)])
    >>> model.compile(keras_adaptive.optimizers.Adagrad(0.1, row_wise=True), "mse")

    References:

    - [Duchi et al., 2011](https://jmlr.org/papers/v12/duchi11a.html)
    - [Naumov et al., 2019](https://arxiv.org/abs/1906.00091) for `row_wise`
    """

    learning_rate: LearningRate = hyperparameter(
        doc="η, often best at 0.01 to 1: a float, a schedule, or a callable.",
        default=0.001,
    )
    initial_accumulator_value: float = hyperparameter(
        NON_NEGATIVE, "The value of a at the start.", default=0.1
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE,
        "ε, keeps the denominator away from zero. It is inside the root, as in Keras.",
        default=1e-7,
    )
    row_wise: bool = hyperparameter(
        doc="""Keeps one accumulator a row, a ← a + mean(g²), with ε outside the root.
        The state of a table shrinks by its width.""",
        default=False,
    )

    catch_up = standing_still

    @property
    def slots(self) -> dict[str, Slot]:
        return {"accumulator": Slot(self.initial_accumulator_value, self.row_wise)}

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        accumulator = state["accumulator"] + self.squared(gradient)
        if self.row_wise:
            denominator = ops.sqrt(accumulator) + hyper.epsilon
        else:
            denominator = ops.sqrt(accumulator + hyper.epsilon)
        step = hyper.learning_rate * gradient / denominator
        return step, {"accumulator": accumulator}
