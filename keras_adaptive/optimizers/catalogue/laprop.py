"""LaProp."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.moments import averaged, unbiased
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    PACKAGE,
    Hyper,
    LearningRate,
    Slot,
    State,
    hyperparameter,
)


@keras.saving.register_keras_serializable(PACKAGE)
class LaProp(AdaptiveOptimizer):
    """LaProp: Adam that normalizes each gradient before it enters the momentum.

    With the gradient g at step t, the velocity v, the momentum m, the learning rate
    η and its mean η̄:

        v ← β₂ v + (1 - β₂) g²
        m ← β₁ m + (1 - β₁) η g / (√(v / (1 - β₂ᵗ)) + ε)
        η̄ ← β₁ η̄ + (1 - β₁) η
        w ← w - η / η̄ · m

    With a constant learning rate, η / η̄ is the bias correction 1 / (1 - β₁ᵗ). Adam
    divides old gradients by the current v. LaProp divides each gradient by the v of its
    own step, so β₁ and β₂ can be chosen independently. (Adam may diverge if β₁ > √β₂.)

    When to use: for noisy gradients with a small `beta_2` (0.9 to 0.99) or a `beta_1`
        close to one, as in recurrent networks and reinforcement learning. Avoid it
        where gradients are rare, because a single normalized gradient makes a large
        step. Expect no gain with the usual betas, where it is close to Adam. What
        matters: `learning_rate` and `beta_2`.

    Sparse gradients, `"deferred"`: after d steps with zero gradient, v and m have
    decayed by β₂ᵈ and β₁ᵈ, and the weights have moved by -m Σⱼ ηₜ₊ⱼ / η̄ₜ₊ⱼ · β₁ʲ.
    This is exact, also under a schedule.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.LaProp(0.01, beta_2=0.9), "mse")

    References:

    - [Ziyin et al., 2020](https://arxiv.org/abs/2002.04839)
    """

    learning_rate: LearningRate = hyperparameter(default=0.0004)
    beta_1: float = hyperparameter(
        DECAY_RATE, "β₁, decay rate of the momentum.", default=0.9
    )
    beta_2: float = hyperparameter(
        DECAY_RATE, "β₂, decay rate of the velocity.", default=0.999
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE, "ε, added to the root of the corrected velocity.", default=1e-15
    )
    row_wise: bool = hyperparameter(
        doc="Keeps one velocity a row, of mean(g²).", default=False
    )

    global_slots = {"mean_learning_rate": Slot()}

    @property
    def slots(self) -> dict[str, Slot]:
        return {"momentum": Slot(), "velocity": Slot(row_wise=self.row_wise)}

    def reduce_stats(self, sums: State, old: State, hyper: Hyper) -> State:
        mean = old["mean_learning_rate"]
        return {"mean_learning_rate": averaged(mean, hyper.learning_rate, hyper.beta_1)}

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        m, v = state["momentum"], state["velocity"]
        v = averaged(v, self.squared(gradient), hyper.beta_2)
        root = ops.sqrt(unbiased(v, hyper.beta_2, hyper.step))
        normalized = gradient / (root + hyper.epsilon)
        m = averaged(m, hyper.learning_rate * normalized, hyper.beta_1)
        rate, _ = self.drift(hyper)
        return rate * m, {"momentum": m, "velocity": v}

    def catch_up(
        self, state: State, skipped_steps: Any, hyper: Hyper
    ) -> tuple[Any, State]:
        m, v = state["momentum"], state["velocity"]
        return m, {
            "momentum": ops.power(hyper.beta_1, skipped_steps) * m,
            "velocity": ops.power(hyper.beta_2, skipped_steps) * v,
        }

    def drift(self, hyper: Hyper) -> tuple[Any, Any]:
        mean = hyper.global_state["mean_learning_rate"]
        # A warmup may begin at zero, when m is zero too.
        safe = ops.where(mean > 0, mean, ops.ones_like(mean))
        return hyper.learning_rate / safe, hyper.beta_1
