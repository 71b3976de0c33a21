"""AdaBound."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.catalogue.adam import AdamRule
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    PACKAGE,
    POSITIVE,
    POSITIVE_OR_NONE,
    Hyper,
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
    `amsbound=True` the largest v so far replaces v in the third line.

    When to use: problems on which Adam is fast but SGD ends up better, when one run
        should have both; a schedule around AdamW is the more usual answer. Not without
        tuning `final_learning_rate`, which is a second learning rate. What matters:
        `final_learning_rate`, then `learning_rate` and `gamma`.

    Sparse gradients: `"lazy"`. The steps that a row skips have no closed form: some
    rates follow v, others follow the bounds, and they change sides as both move.

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

    learning_rate: LearningRate = hyperparameter(default=0.001)
    final_learning_rate: float = hyperparameter(
        POSITIVE, "η*, the rate of SGD.", default=0.1
    )
    beta_1: float = hyperparameter(
        DECAY_RATE, "β₁, the momentum's decay rate.", default=0.9
    )
    beta_2: float = hyperparameter(
        DECAY_RATE, "β₂, the velocity's decay rate.", default=0.999
    )
    gamma: float = hyperparameter(POSITIVE, "γ, the pace of the bounds.", default=0.001)
    epsilon: float = hyperparameter(
        NON_NEGATIVE, "ε, the smallest denominator.", default=1e-8
    )
    amsbound: bool = hyperparameter(
        doc="Uses the largest velocity so far.", default=False
    )
    base_learning_rate: float | None = hyperparameter(
        POSITIVE_OR_NONE,
        """The learning rate that η* belongs to. At another learning rate η* is scaled
        by their ratio. `None` stands for the first learning rate; a schedule that warms
        up from (almost) 0 needs its peak here.""",
        default=None,
    )
    row_wise: bool = hyperparameter(
        doc="Keeps one velocity a row, of mean(g²).", default=False
    )

    catch_up = None  # type: ignore[assignment]

    def complete(self) -> None:
        self.amsgrad = self.amsbound
        if self.base_learning_rate is None:
            first = float(ops.convert_to_numpy(self.learning_rate))
            if not first:
                raise ValueError(
                    "AdaBound: the learning rate begins at 0, so `final_learning_rate` "
                    "has nothing to be scaled by. Pass `base_learning_rate`, the rate "
                    "that it belongs to: the peak of a warm-up, for example."
                )
            self.base_learning_rate = first

    def _rates(self, v: Any, hyper: Hyper) -> Any:
        scale = hyper.learning_rate / hyper.base_learning_rate
        final, progress = scale * hyper.final_learning_rate, hyper.gamma * hyper.step
        low, high = final * (1 - 1 / (progress + 1)), final * (1 + 1 / progress)
        return ops.clip(super()._rates(v, hyper), low, high)
