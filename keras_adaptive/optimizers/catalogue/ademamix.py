"""AdEMAMix."""

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
    Interval,
    LearningRate,
    Slot,
    State,
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

    The slow momentum has no bias correction: it grows by itself, over about
    1 / (1 - β₃) steps. Two warmups delay it further. With `alpha_warmup` its weight α
    grows linearly from zero. With `beta_3_warmup` its half-life grows linearly from
    that of the fast momentum. The authors set both to the length of the training.

    When to use: long training of language and vision models, of many times
        1 / (1 - β₃) steps. Not for short runs, in which m₂ stays near zero, nor where
        the data change on the way, nor where memory is short (three numbers a
        parameter). What matters: `learning_rate`, `beta_3`, `alpha`, and both warmups:
        without them a large `alpha` can diverge early.

    Sparse gradients are `"lazy"`. There is no closed form: while the gradient is zero,
    the two momenta decay at different rates, and the direction of their sum turns.

    Example:

    >>> import keras, keras_adaptive
    >>> optimizer = keras_adaptive.optimizers.AdEMAMix(
    ...     0.001, alpha_warmup=10_000, beta_3_warmup=10_000
    ... )

    References:

    - [Pagliardini et al., 2024](https://arxiv.org/abs/2409.03137)
    """

    learning_rate: LearningRate = hyperparameter(default=0.001)
    beta_1: float = hyperparameter(DECAY_RATE, "β₁, the decay rate of m₁.", default=0.9)
    beta_2: float = hyperparameter(
        DECAY_RATE, "β₂, the decay rate of v.", default=0.999
    )
    beta_3: float = hyperparameter(
        DECAY_RATE, "β₃, the decay rate of m₂.", default=0.9999
    )
    alpha: float = hyperparameter(NON_NEGATIVE, "α, the weight of m₂.", default=5.0)
    epsilon: float = hyperparameter(
        NON_NEGATIVE, "ε, the smallest denominator.", default=1e-8
    )
    alpha_warmup: int | None = hyperparameter(
        WARMUP, "The number of steps over which α grows from zero.", default=None
    )
    beta_3_warmup: int | None = hyperparameter(
        WARMUP, "The number of steps over which β₃ grows from β₁.", default=None
    )
    row_wise: bool = hyperparameter(
        doc="Keeps one velocity a row, of mean(g²).", default=False
    )

    @property
    def slots(self) -> dict[str, Slot]:
        velocity = Slot(row_wise=self.row_wise)
        return {"momentum": Slot(), "slow_momentum": Slot(), "velocity": velocity}

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        alpha = warmed_up_alpha(self.alpha_warmup, hyper)
        beta_3 = warmed_up_beta_3(self.beta_3_warmup, hyper)
        fast = averaged(state["momentum"], gradient, hyper.beta_1)
        slow = averaged(state["slow_momentum"], gradient, beta_3)
        v = averaged(state["velocity"], self.squared(gradient), hyper.beta_2)
        mix = unbiased(fast, hyper.beta_1, hyper.step) + alpha * slow
        root = ops.sqrt(unbiased(v, hyper.beta_2, hyper.step))
        step = hyper.learning_rate * mix / (root + hyper.epsilon)
        return step, {"momentum": fast, "slow_momentum": slow, "velocity": v}


def warmed_up_alpha(warmup: int | None, hyper: Hyper) -> Any:
    """Returns α at this step, of a warmup of so many steps or of none."""
    if warmup is None:
        return hyper.alpha
    return hyper.alpha * _progress(warmup, hyper)


def warmed_up_beta_3(warmup: int | None, hyper: Hyper) -> Any:
    """Returns β₃ at this step, of a warmup of so many steps or of none."""
    if warmup is None:
        return hyper.beta_3
    start, end = 1 / ops.log(hyper.beta_1), 1 / ops.log(hyper.beta_3)
    return ops.exp(1 / (start + _progress(warmup, hyper) * (end - start)))


def _progress(warmup: int, hyper: Hyper) -> Any:
    """Returns the share of a warmup that has passed, at most one."""
    return ops.minimum(hyper.step / hyper.number(warmup), ops.ones_like(hyper.step))
