"""AdEMAMix."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.moments import averaged, unbiased
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    PACKAGE,
    Interval,
    LearningRate,
    Slot,
    hyperparameter,
)

WARMUP = Interval(1, whole=True, optional=True)


@keras.saving.register_keras_serializable(PACKAGE)
class AdEMAMix(AdaptiveOptimizer):
    """AdEMAMix: Adam with a second, slow momentum that remembers for long.

    With the gradient g at step t, the fast momentum m₁, the slow one m₂, the velocity
    v and the learning rate η:

        m₁ ← β₁ m₁ + (1 - β₁) g
        m₂ ← β₃ m₂ + (1 - β₃) g
        v ← β₂ v + (1 - β₂) g²
        w ← w - η (m₁ / (1 - β₁ᵗ) + α m₂) / (√(v / (1 - β₂ᵗ)) + ε)

    The slow momentum is not bias-corrected: it comes in by itself, over about
    1 / (1 - β₃) steps.

    When to use: long training of language and vision models, of many times
        1 / (1 - β₃) steps. Not for short runs, in which m₂ never gets going, nor where
        the data change on the way, nor where memory is short (three numbers a
        parameter). What matters: `learning_rate`, `beta_3`, `alpha`, and both warmups:
        without them a large `alpha` can diverge early.

    Sparse gradients are `"lazy"`. There is no closed form: while the gradient is zero
    the two momenta decay at different rates, and the direction of their sum turns.

    Example:

    >>> import keras, keras_adaptive
    >>> optimizer = keras_adaptive.optimizers.AdEMAMix(
    ...     0.001, alpha_warmup=10_000, beta_3_warmup=10_000
    ... )

    References:

    - [Pagliardini et al., 2024](https://arxiv.org/abs/2409.03137)
    """

    learning_rate: LearningRate = hyperparameter(0.001)
    beta_1: float = hyperparameter(0.9, DECAY_RATE, "Decay rate of the fast momentum.")
    beta_2: float = hyperparameter(0.999, DECAY_RATE, "Decay rate of the velocity.")
    beta_3: float = hyperparameter(
        0.9999, DECAY_RATE, "Decay rate of the slow momentum."
    )
    alpha: float = hyperparameter(5.0, NON_NEGATIVE, "The weight of the slow momentum.")
    epsilon: float = hyperparameter(
        1e-8,
        NON_NEGATIVE,
        """Keeps the denominator away from zero; beside the root of the corrected
        velocity.""",
    )
    alpha_warmup: int | None = hyperparameter(
        None,
        WARMUP,
        """Int or `None`: the weight grows linearly from zero over so many steps.
        The authors take the length of the training.""",
    )
    beta_3_warmup: int | None = hyperparameter(
        None,
        WARMUP,
        """Int or `None`: over so many steps the half-life of the slow momentum
        grows linearly from that of the fast one. The authors take the length
        of the training.""",
    )
    row_wise: bool = hyperparameter(False, doc="Keep one velocity a row, of mean(g²).")

    @property
    def slots(self):
        return {
            "momentum": Slot(),
            "slow_momentum": Slot(),
            "velocity": Slot(row_wise=self.row_wise),
        }

    def _alpha(self, hyper):
        if self.alpha_warmup is None:
            return hyper.alpha
        return hyper.alpha * _progress(hyper.step, hyper.alpha_warmup)

    def _beta_3(self, hyper):
        if self.beta_3_warmup is None:
            return hyper.beta_3
        progress = _progress(hyper.step, hyper.beta_3_warmup)
        start, end = 1 / ops.log(hyper.beta_1), 1 / ops.log(hyper.beta_3)
        return ops.exp(1 / (start + progress * (end - start)))

    def rule(self, gradient, state, hyper):
        fast, slow, v = (state[name] for name in self.slots)
        fast = averaged(fast, gradient, hyper.beta_1)
        slow = averaged(slow, gradient, self._beta_3(hyper))
        v = averaged(v, self.squared(gradient), hyper.beta_2)
        mix = unbiased(fast, hyper.beta_1, hyper.step) + self._alpha(hyper) * slow
        root = ops.sqrt(unbiased(v, hyper.beta_2, hyper.step))
        step = hyper.learning_rate * mix / (root + hyper.epsilon)
        return step, {"momentum": fast, "slow_momentum": slow, "velocity": v}


def _progress(step, steps):
    return ops.minimum(step / steps, ops.ones_like(step))
