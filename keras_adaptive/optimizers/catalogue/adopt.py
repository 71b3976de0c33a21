"""ADOPT."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.moments import averaged, decayed_moments
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    PACKAGE,
    POSITIVE,
    Hyper,
    LearningRate,
    Slot,
    State,
    hyperparameter,
)


@keras.saving.register_keras_serializable(PACKAGE)
class ADOPT(AdaptiveOptimizer):
    """ADOPT: Adam that normalises by the gradients before the present one.

    The state is the velocity v and the momentum m. With the gradient g, the first call
    only sets v ← g². Each later step t, with the learning rate η and c = (t - 1)^¼, is:

        m ← β₁ m + (1 - β₁) clip(g / max(√v, ε), -c, c)
        v ← β₂ v + (1 - β₂) g²
        w ← w - η m

    Since v does not contain g, ADOPT converges with any β₂, which Adam need not. The
    clipping is that of the authors' second version. Weight decay acts from the first
    call on; in the authors' code it acts from the second.

    When to use: in place of Adam where training is unstable or `beta_2` cannot be
        tuned. Not for rare features, nor for layers whose first gradient is zero: their
        v begins at zero, and the first step is one of the clipped sign. What matters:
        `learning_rate`, then `weight_decay`.

    Sparse gradients, `"deferred"`: after d steps with zero gradient v and m have
    decayed by β₂ᵈ and β₁ᵈ, and the weights have moved by -m Σⱼ ηₜ₊ⱼ β₁ʲ. This is exact.
    Only the rows of the first call have a v to begin with, as in a dense update. The
    first gradient of any other row is divided by ε and counts as ±(t - 1)^¼.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.ADOPT(0.01), "mse")

    References:

    - [Taniguchi et al., 2024](https://arxiv.org/abs/2411.02853)
    """

    learning_rate: LearningRate = hyperparameter(default=0.001)
    beta_1: float = hyperparameter(
        DECAY_RATE, "β₁, the momentum's decay rate.", default=0.9
    )
    beta_2: float = hyperparameter(
        DECAY_RATE, "β₂, the velocity's decay rate.", default=0.9999
    )
    epsilon: float = hyperparameter(
        POSITIVE,
        """ε, the smallest denominator. It takes effect where the first gradient of an
        entry, and so its v, is zero.""",
        default=1e-6,
    )
    row_wise: bool = hyperparameter(
        doc="Keeps one velocity a row, of mean(g²).", default=False
    )

    @property
    def slots(self) -> dict[str, Slot]:
        return {"momentum": Slot(), "velocity": Slot(row_wise=self.row_wise)}

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        m, v = state["momentum"], state["velocity"]
        normalised = gradient / ops.maximum(ops.sqrt(v), hyper.epsilon)
        # Zero in the first call, so that nothing moves.
        limit = ops.power(hyper.step - 1, hyper.number(0.25))
        m = averaged(m, ops.clip(normalised, -limit, limit), hyper.beta_1)
        beta_2 = ops.where(hyper.step > 1, hyper.beta_2, ops.zeros_like(limit))
        v = averaged(v, self.squared(gradient), beta_2)
        return hyper.learning_rate * m, {"momentum": m, "velocity": v}

    def catch_up(
        self, state: State, skipped_steps: Any, hyper: Hyper
    ) -> tuple[Any, State]:
        return state["momentum"], decayed_moments(state, skipped_steps, hyper)

    def drift(self, hyper: Hyper) -> tuple[Any, Any]:
        return hyper.learning_rate, hyper.beta_1
