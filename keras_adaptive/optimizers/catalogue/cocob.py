"""COCOB."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.contract import (
    PACKAGE,
    POSITIVE,
    Hyper,
    LearningRate,
    Slot,
    State,
    hyperparameter,
    standing_still,
)


@keras.saving.register_keras_serializable(PACKAGE)
class COCOB(AdaptiveOptimizer):
    """COCOB: each weight bets on the sign of its gradients, without a learning rate.

    The algorithm is COCOB-Backprop. With the gradient g, its largest size so far L, the
    sum of its sizes G, the reward r, the negative sum of the gradients θ, the learning
    rate η and the bet b, which is the distance of the weight from its initial value:

        L ← max(L, |g|),  G ← G + |g|
        r ← max(r - g b, 0),  θ ← θ - g
        b' = θ / (L max(G + L, α L)) · (L + r)
        w ← w + η (b' - b)

    The first step of every weight is 1/α, whatever the size of its gradient. The bet
    then grows by rewards where the signs agree.

    The paper has no learning rate, which is η = 1. Other values scale the steps but not
    the bets that they follow, so a schedule can anneal the end of training. With η = 1
    a step decays the weights by the whole `weight_decay`.

    When to use: a baseline without any tuning, for dense and sparse features alike. Not
        to compete with a tuned Adam, nor where memory is short (four numbers a
        parameter). What matters: nothing much; `alpha` sets the size of first steps.

    Sparse gradients: a row with zero gradients stands still, so `"deferred"`, `"lazy"`
    and `"dense"` are the same without weight decay and moving average.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.COCOB(), "mse")

    References:

    - [Orabona & Tommasi, 2017](https://arxiv.org/abs/1705.07795)
    """

    learning_rate: LearningRate = hyperparameter(
        doc="η, a factor of the steps: a float, a schedule, or a callable.", default=1.0
    )
    alpha: float = hyperparameter(
        POSITIVE, "α. The first steps are 1/α long.", default=100.0
    )
    epsilon: float = hyperparameter(
        POSITIVE, "The value of L at the start.", default=1e-8
    )

    catch_up = standing_still

    @property
    def slots(self) -> dict[str, Slot]:
        sums = dict.fromkeys(("absolute_sum", "reward", "negative_sum"), Slot())
        return {"largest": Slot(self.epsilon), **sums}

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        bet = _bet(state, hyper)
        size = ops.abs(gradient)
        reward = state["reward"] - gradient * bet
        new = {
            "largest": ops.maximum(state["largest"], size),
            "absolute_sum": state["absolute_sum"] + size,
            "reward": ops.maximum(reward, ops.zeros_like(reward)),
            "negative_sum": state["negative_sum"] - gradient,
        }
        return hyper.learning_rate * (bet - _bet(new, hyper)), new


def _bet(state: State, hyper: Hyper) -> Any:
    largest = state["largest"]
    scale = ops.maximum(state["absolute_sum"] + largest, hyper.alpha * largest)
    wealth = largest + state["reward"]
    return state["negative_sum"] / (largest * scale) * wealth
