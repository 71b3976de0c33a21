"""Adam and AdamW."""

from __future__ import annotations

import keras
from keras import ops

from keras_adaptive.optimizers.base import PACKAGE, AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.shared.moments import averaged
from keras_adaptive.optimizers.contract.constraints import DECAY_RATE, NON_NEGATIVE
from keras_adaptive.optimizers.contract.slot import Slot


@keras.saving.register_keras_serializable(PACKAGE)
class Adam(AdaptiveOptimizer):
    """Adam: running means of the gradient and of its square.

    With the gradient g at step t, the momentum m, the velocity v and the learning
    rate η:

        m ← β₁ m + (1 - β₁) g
        v ← β₂ v + (1 - β₂) g²
        w ← w - η √(1 - β₂ᵗ) / (1 - β₁ᵗ) · m / (√v + ε)

    With `amsgrad=True` the largest v so far takes the place of v in the last line.

    When to use: the first thing to try, on nearly anything. Not where memory is short
        (two numbers a parameter). What matters: `learning_rate` and its schedule,
        `beta_2` for small batches, and `epsilon`, which is a hyper-parameter and not a
        detail.

    Args:
        learning_rate: A float, a schedule, or a callable. Defaults to `0.001`.
        beta_1: Decay rate of the momentum, in `[0, 1)`. Defaults to `0.9`.
        beta_2: Decay rate of the velocity, in `[0, 1)`. Defaults to `0.999`.
        epsilon: Keeps the denominator away from zero. It is the paper's
            "epsilon hat", beside the root of the uncorrected v, as in Keras.
            Defaults to `1e-7`.
        amsgrad: Use the largest velocity so far. Defaults to `False`.
        row_wise: Keep one velocity a row, of mean(g²): the state of a table
            shrinks by almost half.
        **options: Keras's base options and `sparse`; see `AdaptiveOptimizer`.

    Sparse gradients, `"deferred"`: after d steps with zero gradient m and v have
    decayed by β₁ᵈ and β₂ᵈ, and the weights have moved by

        -m / (√v + ε) · Σⱼ aₜ₊ⱼ rʲ,  aₜ = η √(1 - β₂ᵗ) / (1 - β₁ᵗ),  r = β₁ / √β₂

    (r = β₁ for AMSGrad, whose largest v stands still). It is exact but for ε, which is
    taken as decaying with √v; that makes a difference only where √v is about as
    small as ε. It needs r ≤ 1: otherwise the default is `"lazy"`.

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

    bounds = {"beta_1": DECAY_RATE, "beta_2": DECAY_RATE, "epsilon": NON_NEGATIVE}

    def __init__(
        self,
        learning_rate=0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        row_wise: bool = False,
        **options,
    ):
        super().__init__(learning_rate, **options)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.amsgrad = amsgrad
        self.row_wise = row_wise
        self._deferred_needs(
            amsgrad or beta_1**2 <= beta_2,
            "beta_1 <= sqrt(beta_2), or the steps of an untouched row grow without "
            f"bound. Received: beta_1={beta_1}, beta_2={beta_2}.",
            options.get("sparse"),
        )

    @property
    def slots(self):
        slots = {"momentum": Slot(), "velocity": Slot(row_wise=self.row_wise)}
        if self.amsgrad:
            slots["velocity_hat"] = Slot(row_wise=self.row_wise)
        return slots

    def _rate(self, hyper):
        correction_1 = 1 - ops.power(hyper.beta_1, hyper.step)
        correction_2 = 1 - ops.power(hyper.beta_2, hyper.step)
        return hyper.learning_rate * ops.sqrt(correction_2) / correction_1

    def _moments(self, gradient, state, hyper):
        m = averaged(state["momentum"], gradient, hyper.beta_1)
        v = averaged(state["velocity"], self.squared(gradient), hyper.beta_2)
        return {"momentum": m, "velocity": v}

    def _rates(self, v, hyper):
        """The learning rate of each entry."""
        return self._rate(hyper) / (ops.sqrt(v) + hyper.epsilon)

    def rule(self, gradient, state, hyper):
        new = self._moments(gradient, state, hyper)
        m, v = new["momentum"], new["velocity"]
        if self.amsgrad:
            v = new["velocity_hat"] = ops.maximum(state["velocity_hat"], v)
        return self._rates(v, hyper) * m, new

    def idle(self, state, missed, hyper):
        m, v = state["momentum"], state["velocity"]
        new = {
            "momentum": ops.power(hyper.beta_1, missed) * m,
            "velocity": ops.power(hyper.beta_2, missed) * v,
        }
        if self.amsgrad:
            v = new["velocity_hat"] = state["velocity_hat"]
        return 1 / (ops.sqrt(v) + hyper.epsilon) * m, new

    def drift(self, hyper):
        ratio = hyper.beta_1
        if not self.amsgrad and self.beta_1 > 0:
            ratio = ratio / ops.sqrt(hyper.beta_2)
        return self._rate(hyper), ratio


@keras.saving.register_keras_serializable(PACKAGE)
class AdamW(Adam):
    """Adam with decoupled weight decay.

    Adam, but before each step the weights shrink: w ← w - η λ w. Every optimizer
    here takes `weight_decay`; this one has it by default, as Keras's.

    When to use: as `Adam`, when weights should be kept small: the usual choice for
        transformers and fine-tuning. Exclude biases and normalization from the decay.
        What matters: `learning_rate`, its schedule, and `weight_decay`.

    Args:
        learning_rate: A float, a schedule, or a callable. Defaults to `0.001`.
        weight_decay: λ, at least 0. Defaults to `0.004`.
        beta_1: Decay rate of the momentum, in `[0, 1)`. Defaults to `0.9`.
        beta_2: Decay rate of the velocity, in `[0, 1)`. Defaults to `0.999`.
        epsilon: Keeps the denominator away from zero. Defaults to `1e-7`.
        amsgrad: Use the largest velocity so far. Defaults to `False`.
        row_wise: Keep one velocity a row.
        **options: Keras's base options and `sparse`; see `AdaptiveOptimizer`.

    Sparse gradients: as `Adam`; the decay that a row missed is exact under any
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

    bounds = {**Adam.bounds, "weight_decay": NON_NEGATIVE}

    def __init__(
        self,
        learning_rate=0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        row_wise: bool = False,
        **options,
    ):
        super().__init__(
            learning_rate,
            beta_1,
            beta_2,
            epsilon,
            amsgrad,
            row_wise,
            weight_decay=weight_decay,
            **options,
        )
