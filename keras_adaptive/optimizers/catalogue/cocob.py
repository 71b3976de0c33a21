"""COCOB."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.contract import (
    PACKAGE,
    POSITIVE,
    LearningRate,
    Slot,
    hyperparameter,
    standing_still,
)


@keras.saving.register_keras_serializable(PACKAGE)
class COCOB(AdaptiveOptimizer):
    """COCOB: each weight bets on the sign of its gradients; no learning rate.

    COCOB-Backprop. With the gradient g, its largest size so far L, the sum of its
    sizes G, the reward r, the negative sum of the gradients θ, and the bet b, the
    distance of the weight from its initial value:

        L ← max(L, |g|),  G ← G + |g|
        r ← max(r - g b, 0),  θ ← θ - g
        b' = θ / (L max(G + L, α L)) · (L + r)
        w ← w + η (b' - b)

    The first step of every weight is 1/α, whatever the size of its gradient; where
    the signs then agree, the bet grows by rewards.

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
        1.0,
        doc="""η; the paper's algorithm has none: `1.0`, the default. A float, a
        schedule, or a callable; it scales the steps but not the bets that
        they follow, so it can anneal the end of training.""",
    )
    alpha: float = hyperparameter(100.0, POSITIVE, "α, how small the first steps are.")
    epsilon: float = hyperparameter(1e-8, POSITIVE, "The L to start from.")

    catch_up = standing_still

    @property
    def slots(self):
        return {
            "largest": Slot(self.epsilon),
            "absolute_sum": Slot(),
            "reward": Slot(),
            "negative_sum": Slot(),
        }

    def rule(self, gradient, state, hyper):
        bet = self._bet(state, hyper)
        size = ops.abs(gradient)
        reward = state["reward"] - gradient * bet
        new = {
            "largest": ops.maximum(state["largest"], size),
            "absolute_sum": state["absolute_sum"] + size,
            "reward": ops.maximum(reward, ops.zeros_like(reward)),
            "negative_sum": state["negative_sum"] - gradient,
        }
        return hyper.learning_rate * (bet - self._bet(new, hyper)), new

    def _bet(self, state, hyper):
        largest = state["largest"]
        scale = ops.maximum(state["absolute_sum"] + largest, hyper.alpha * largest)
        wealth = largest + state["reward"]
        return state["negative_sum"] / (largest * scale) * wealth
