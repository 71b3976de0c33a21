"""AdaBound."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.base import PACKAGE
from keras_adaptive.optimizers.catalogue.adam import Adam
from keras_adaptive.optimizers.contract.constraints import POSITIVE


@keras.saving.register_keras_serializable(PACKAGE)
class AdaBound(Adam):
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

    Args:
        learning_rate: A float, a schedule, or a callable. Defaults to `0.001`.
        final_learning_rate: η*, the rate of SGD. Defaults to `0.1`.
        beta_1: Decay rate of the momentum, in `[0, 1)`. Defaults to `0.9`.
        beta_2: Decay rate of the velocity, in `[0, 1)`. Defaults to `0.999`.
        gamma: γ > 0: how fast the bounds close in. Defaults to `0.001`.
        epsilon: Keeps the denominator away from zero. Defaults to `1e-8`.
        amsbound: Use the largest velocity so far. Defaults to `False`.
        base_learning_rate: The learning rate that η* goes with: while the learning rate
            is another, η* is scaled by their ratio. By default the learning rate to
            begin with; a schedule that warms up from (almost) 0 needs its peak here.
        row_wise: Keep one velocity a row, of mean(g²).
        **options: Keras's base options and `sparse`; see `AdaptiveOptimizer`.

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

    bounds = {
        **Adam.bounds,
        "final_learning_rate": POSITIVE,
        "gamma": POSITIVE,
        "base_learning_rate": POSITIVE,
    }
    idle = None

    def __init__(
        self,
        learning_rate=0.001,
        final_learning_rate: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        gamma: float = 0.001,
        epsilon: float = 1e-8,
        amsbound: bool = False,
        base_learning_rate: float | None = None,
        row_wise: bool = False,
        **options,
    ):
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, amsbound, row_wise, **options
        )
        self.final_learning_rate = final_learning_rate
        self.gamma = gamma
        self.amsbound = amsbound
        if base_learning_rate is None:
            base_learning_rate = float(self.learning_rate)
        self.base_learning_rate = base_learning_rate

    def _rates(self, v, hyper):
        scale = hyper.learning_rate / hyper.base_learning_rate
        final, progress = scale * hyper.final_learning_rate, hyper.gamma * hyper.step
        low, high = final * (1 - 1 / (progress + 1)), final * (1 + 1 / progress)
        return ops.clip(super()._rates(v, hyper), low, high)
