"""LaProp."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.moments import averaged, unbiased
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    PACKAGE,
    LearningRate,
    Slot,
    hyperparameter,
)


@keras.saving.register_keras_serializable(PACKAGE)
class LaProp(AdaptiveOptimizer):
    """LaProp: momentum of gradients that are normalised first, not last.

    With the gradient g at step t, the velocity v, the momentum m, the learning rate
    η and its mean η̄:

        v ← β₂ v + (1 - β₂) g²
        m ← β₁ m + (1 - β₁) η g / (√(v / (1 - β₂ᵗ)) + ε)
        η̄ ← β₁ η̄ + (1 - β₁) η
        w ← w - η / η̄ · m

    Under a constant learning rate η / η̄ is the bias correction 1 / (1 - β₁ᵗ). Adam
    divides old gradients by today's v; here each is divided by the v of its own step,
    so β₁ and β₂ can be chosen freely (Adam may diverge with β₁ > √β₂).

    When to use: noisy gradients and a small `beta_2` (0.9 to 0.99), or a `beta_1`
        close to one; recurrent networks, reinforcement learning. Not as a remedy for
        anything else: with the usual betas it is close to Adam. Where a gradient comes
        once in a long while its one normalised step is a large one. What matters:
        `learning_rate` and `beta_2`.

    Sparse gradients, `"deferred"`: after d steps with zero gradient v and m have
    decayed by β₂ᵈ and β₁ᵈ, and the weights have moved by -m Σⱼ ηₜ₊ⱼ / η̄ₜ₊ⱼ · β₁ʲ.
    Exact, also under a schedule.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.LaProp(0.01, beta_2=0.9), "mse")

    References:

    - [Ziyin et al., 2020](https://arxiv.org/abs/2002.04839)
    """

    learning_rate: LearningRate = hyperparameter(0.0004)
    beta_1: float = hyperparameter(0.9, DECAY_RATE, "Decay rate of the momentum.")
    beta_2: float = hyperparameter(0.999, DECAY_RATE, "Decay rate of the velocity.")
    epsilon: float = hyperparameter(
        1e-15,
        NON_NEGATIVE,
        """Keeps the denominator away from zero; beside the root of the corrected
        velocity.""",
    )
    row_wise: bool = hyperparameter(False, doc="Keep one velocity a row, of mean(g²).")

    global_slots = {"mean_learning_rate": Slot()}

    @property
    def slots(self):
        return {"momentum": Slot(), "velocity": Slot(row_wise=self.row_wise)}

    def reduce_stats(self, sums, shared, hyper):
        mean = shared["mean_learning_rate"]
        return {"mean_learning_rate": averaged(mean, hyper.learning_rate, hyper.beta_1)}

    def rule(self, gradient, state, hyper):
        m, v = state["momentum"], state["velocity"]
        v = averaged(v, self.squared(gradient), hyper.beta_2)
        root = ops.sqrt(unbiased(v, hyper.beta_2, hyper.step))
        normalised = gradient / (root + hyper.epsilon)
        m = averaged(m, hyper.learning_rate * normalised, hyper.beta_1)
        rate, _ = self.drift(hyper)
        return rate * m, {"momentum": m, "velocity": v}

    def catch_up(self, state, skipped_steps, hyper):
        m, v = state["momentum"], state["velocity"]
        return m, {
            "momentum": ops.power(hyper.beta_1, skipped_steps) * m,
            "velocity": ops.power(hyper.beta_2, skipped_steps) * v,
        }

    def drift(self, hyper):
        mean = hyper.global_state["mean_learning_rate"]
        # A warmup may begin at zero, when m is zero too.
        safe = ops.where(mean > 0, mean, ops.ones_like(mean))
        return hyper.learning_rate / safe, hyper.beta_1
