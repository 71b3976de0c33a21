"""Adam and AdamW."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.moments import (
    averaged,
    decayed_moments,
    unbounded_drift,
)
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    PACKAGE,
    Hyper,
    LearningRate,
    Quotient,
    Slot,
    State,
    hyperparameter,
)


class AdamRule(AdaptiveOptimizer):
    """The rule of Adam, which the algorithms of its family share."""

    amsgrad = False

    @property
    def slots(self) -> dict[str, Slot]:
        slots = {"momentum": Slot(), "velocity": Slot(row_wise=self.row_wise)}
        if self.amsgrad:
            slots["velocity_hat"] = Slot(row_wise=self.row_wise)
        return slots

    def _rate(self, hyper: Hyper) -> Any:
        return corrected_rate(hyper, hyper.step)

    def _moments(self, gradient: Any, state: State, hyper: Hyper) -> State:
        m = averaged(state["momentum"], gradient, hyper.beta_1)
        v = averaged(state["velocity"], self.squared(gradient), hyper.beta_2)
        return {"momentum": m, "velocity": v}

    def _rates(self, v: Any, hyper: Hyper) -> Any:
        """Returns the learning rate of each entry."""
        return self._rate(hyper) / (ops.sqrt(v) + hyper.epsilon)

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        new = self._moments(gradient, state, hyper)
        m, v = new["momentum"], new["velocity"]
        if self.amsgrad:
            v = new["velocity_hat"] = ops.maximum(state["velocity_hat"], v)
        return self._rates(v, hyper) * m, new

    def catch_up(
        self, state: State, skipped_steps: Any, hyper: Hyper
    ) -> tuple[Any, State]:
        m, v = state["momentum"], state["velocity"]
        new = decayed_moments(state, skipped_steps, hyper)
        if self.amsgrad:
            v = new["velocity_hat"] = state["velocity_hat"]
        return Quotient(m, ops.sqrt(v), hyper.epsilon), new

    def drift(self, hyper: Hyper) -> tuple[Any, Any] | None:
        return self._rate(hyper), self._ratio(hyper)

    def floor_growth(self, hyper: Hyper) -> tuple[Any, Any] | None:
        return None if self.amsgrad else (1.0, 1 / ops.sqrt(hyper.beta_2))

    def _ratio(self, hyper: Hyper) -> Any:
        """Returns the ratio from one skipped step to the next."""
        if self.amsgrad or self.beta_1 == 0:
            return hyper.beta_1
        return hyper.beta_1 / ops.sqrt(hyper.beta_2)

    def why_not_deferred(self) -> str | None:
        if self.amsgrad or self.beta_1**2 <= self.beta_2:
            return super().why_not_deferred()
        return unbounded_drift("beta_1 <= sqrt(beta_2)", self.beta_1, self.beta_2)


def corrected_rate(hyper: Hyper, step: Any) -> Any:
    """Returns the learning rate with both bias corrections of Adam."""
    correction_1 = 1 - ops.power(hyper.beta_1, step)
    correction_2 = 1 - ops.power(hyper.beta_2, step)
    return hyper.learning_rate * ops.sqrt(correction_2) / correction_1


@keras.saving.register_keras_serializable(PACKAGE)
class Adam(AdamRule):
    """Adam: running means of the gradient and of its square.

    With the gradient g at step t, the momentum m, the velocity v and the learning
    rate η:

        m ← β₁ m + (1 - β₁) g
        v ← β₂ v + (1 - β₂) g²
        w ← w - η √(1 - β₂ᵗ) / (1 - β₁ᵗ) · m / (√v + ε)

    With `amsgrad=True` the largest v so far replaces v in the last line.

    When to use: nearly everything, as the first optimizer to try. Not where memory is
        short (two numbers a parameter). What matters: `learning_rate` and its schedule,
        `beta_2` for small batches, and `epsilon`, which is a hyper-parameter and not a
        detail.

    Sparse gradients, `"deferred"`: after d steps with zero gradient m and v have
    decayed by β₁ᵈ and β₂ᵈ, and the weights have moved by

        -m / (√v + ε) · Σⱼ aₜ₊ⱼ rʲ,  aₜ = η √(1 - β₂ᵗ) / (1 - β₁ᵗ),  r = β₁ / √β₂

    if ε is small. For AMSGrad r = β₁, since the largest v stands still, and this is
    exact. In `Adam` ε grows relative to √v, by β₂^(-1/2) a step, and takes part with
    the mean of this growth. Where ε and √v are alike, about 3e-8 of the way is lost
    with the default betas; elsewhere it is exact. It needs r ≤ 1; otherwise the default
    is `"lazy"`.

    Raises:
        ValueError: As `AdaptiveOptimizer`; also if `sparse="deferred"` is asked
            for with `beta_1` above the root of `beta_2`.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.Adam(0.01, clipnorm=1.0), "mse")

    References:

    - [Kingma & Ba, 2014](https://arxiv.org/abs/1412.6980)
    - [Reddi et al., 2018](https://arxiv.org/abs/1904.09237) for `amsgrad`
    """

    learning_rate: LearningRate = hyperparameter(default=0.001)
    beta_1: float = hyperparameter(
        DECAY_RATE, "β₁, the momentum's decay rate.", default=0.9
    )
    beta_2: float = hyperparameter(
        DECAY_RATE, "β₂, the velocity's decay rate.", default=0.999
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE,
        """ε, the smallest denominator. It is the paper's "epsilon hat", beside the root
        of the uncorrected v, as in Keras.""",
        default=1e-7,
    )
    amsgrad: bool = hyperparameter(
        doc="Uses the largest velocity so far.", default=False
    )
    row_wise: bool = hyperparameter(
        doc="""Keeps one velocity a row, of mean(g²). The state of a table shrinks by
        almost half.""",
        default=False,
    )


@keras.saving.register_keras_serializable(PACKAGE)
class AdamW(AdamRule):
    """Adam with decoupled weight decay.

    The weights shrink before each step of Adam: w ← w - η λ w. Every optimizer here
    takes `weight_decay`. This class decays by default, as that of Keras does.

    When to use: as `Adam`, when weights should be kept small: the usual choice for
        transformers and fine-tuning. Exclude biases and normalization from the decay.
        What matters: `learning_rate`, its schedule, and `weight_decay`.

    Sparse gradients: as `Adam`. The decay that a row skipped is exact under any
    schedule.

    Raises:
        ValueError: As `Adam`; also if `weight_decay` is `None`.

    Example:

    >>> import keras, keras_adaptive
    >>> optimizer = keras_adaptive.optimizers.AdamW(0.01, weight_decay=0.1)
    >>> optimizer.exclude_from_weight_decay(var_names=["bias"])

    References:

    - [Loshchilov & Hutter, 2017](https://arxiv.org/abs/1711.05101)
    """

    learning_rate: LearningRate = hyperparameter(default=0.001)
    weight_decay: float = hyperparameter(
        NON_NEGATIVE, "λ, the weight decay.", default=0.004
    )
    beta_1: float = hyperparameter(
        DECAY_RATE, "β₁, the momentum's decay rate.", default=0.9
    )
    beta_2: float = hyperparameter(
        DECAY_RATE, "β₂, the velocity's decay rate.", default=0.999
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE, "ε, the smallest denominator.", default=1e-7
    )
    amsgrad: bool = hyperparameter(
        doc="Uses the largest velocity so far.", default=False
    )
    row_wise: bool = hyperparameter(
        doc="Keeps one velocity a row, of mean(g²).", default=False
    )
