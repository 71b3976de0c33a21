"""AdaBound."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.catalogue.adam import AdamRule
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    PACKAGE,
    POSITIVE,
    POSITIVE_OR_NONE,
    LearningRate,
    hyperparameter,
)


@keras.saving.register_keras_serializable(PACKAGE)
class AdaBound(AdamRule):
    """AdaBound: Adam at first, SGD with momentum in the end.

    With the gradient g at step t, the momentum m, the velocity v, the learning rate η
    and the final learning rate η*:

        m ← β₁ m + (1 - β₁) g
        v ← β₂ v + (1 - β₂) g²
        r = clip(η √(1 - β₂ᵗ) / (1 - β₁ᵗ) / (√v + ε), low, high)
        w ← w - r m
        low = η* (1 - 1 / (γ t + 1)),  high = η* (1 + 1 / (γ t))

    The bounds of the rates r begin at 0 and infinity and close in on η*. With
    `amsbound=True` the largest v so far takes the place of v in the third line.

    When to use: where Adam is fast but SGD ends up better, and one run should have
        both; a schedule around AdamW is the more usual answer. Not without tuning
        `final_learning_rate`, which is a second learning rate. What matters:
        `final_learning_rate`, then `learning_rate` and `gamma`.

    Sparse gradients: `"lazy"`. There is no closed form for the steps that a row
    misses: some rates follow v, others the bounds, and they change sides as both
    move.

    Raises:
        ValueError: As `AdaptiveOptimizer`; also if the learning rate begins at 0 and
            there is no `base_learning_rate`.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> optimizer = keras_adaptive.optimizers.AdaBound(0.001, final_learning_rate=0.5)
    >>> model.compile(optimizer, "mse")

    References:

    - [Luo et al., 2019](https://arxiv.org/abs/1902.09843)
    """

    learning_rate: LearningRate = hyperparameter(0.001)
    final_learning_rate: float = hyperparameter(0.1, POSITIVE, "η*, the rate of SGD.")
    beta_1: float = hyperparameter(0.9, DECAY_RATE, "Decay rate of the momentum.")
    beta_2: float = hyperparameter(0.999, DECAY_RATE, "Decay rate of the velocity.")
    gamma: float = hyperparameter(
        0.001, POSITIVE, "γ > 0: how fast the bounds close in."
    )
    epsilon: float = hyperparameter(
        1e-8, NON_NEGATIVE, "Keeps the denominator away from zero."
    )
    amsbound: bool = hyperparameter(False, doc="Use the largest velocity so far.")
    base_learning_rate: float | None = hyperparameter(
        None,
        POSITIVE_OR_NONE,
        """The learning rate that η* goes with: while the learning rate is
        another, η* is scaled by their ratio. By default the learning rate to
        begin with; a schedule that warms up from (almost) 0 needs its peak
        here.""",
    )
    row_wise: bool = hyperparameter(False, doc="Keep one velocity a row, of mean(g²).")

    catch_up = None

    def complete(self):
        if self.base_learning_rate is None:
            self.base_learning_rate = float(self.learning_rate)

    def _rates(self, v, hyper):
        scale = hyper.learning_rate / hyper.base_learning_rate
        final, progress = scale * hyper.final_learning_rate, hyper.gamma * hyper.step
        low, high = final * (1 - 1 / (progress + 1)), final * (1 + 1 / progress)
        return ops.clip(super()._rates(v, hyper), low, high)
