"""Schedule-free SGD, AdamW and RAdam: an average in place of a schedule."""

from __future__ import annotations

from typing import ClassVar

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.radam import rectification
from keras_adaptive.optimizers.catalogue.shared.moments import averaged, unbiased
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    PACKAGE,
    PARAMETER,
    Interval,
    LearningRate,
    Slot,
    hyperparameter,
)

INTERPOLATION = Interval(0.0, 1.0, open_low=True, open_high=True)


class _ScheduleFree(AdaptiveOptimizer):
    """What they share: z takes the steps, x averages z, y in between is trained at.

    A subclass says in which direction z goes (`_direction`) and what lies between
    z and x (`_beta`).
    """

    slots = {"z": Slot(PARAMETER)}
    # The mean of the weights: their sum would lose small ones in float32.
    global_slots = {"largest_rate": Slot(), "mean_weight": Slot()}
    warmup_steps: ClassVar[int] = 0

    def complete(self):
        if self.cautious:
            raise ValueError(
                f"{type(self).__name__}: cautious=True is not supported: it would "
                "leave out entries of the step of y but not of z, and x would no "
                "longer be the average of z."
            )

    def decayed(self, parameter, hyper):
        return parameter

    def _rate(self, hyper):
        if not self.warmup_steps:
            return hyper.learning_rate
        warm = hyper.step / hyper.warmup_steps
        return hyper.learning_rate * ops.where(warm < 1, warm, ops.ones_like(warm))

    def _weight(self, largest_rate, hyper):
        by_step = ops.power(hyper.step, hyper.r)
        return by_step * ops.power(largest_rate, hyper.weight_lr_power)

    def reduce_stats(self, sums, shared, hyper):
        rate, largest = self._rate(hyper), shared["largest_rate"]
        largest = ops.where(rate > largest, rate, largest)
        mean = shared["mean_weight"]
        mean = mean + (self._weight(largest, hyper) - mean) / hyper.step
        return {"largest_rate": largest, "mean_weight": mean}

    def _share_of_z(self, hyper):
        """c, the share of the new z in the average; 0 while all weights were."""
        total = hyper.step * hyper.global_state["mean_weight"]
        share = self._weight(hyper.global_state["largest_rate"], hyper) / total
        return ops.where(total > 0, share, ops.zeros_like(total))

    def rule(self, gradient, state, hyper):
        direction, new = self._direction(gradient, state, hyper)
        y, z, c = hyper.parameter, state["z"], self._share_of_z(hyper)
        if self.weight_decay:
            direction = direction + hyper.weight_decay * y
        step = self._rate(hyper) * direction
        new["z"] = z - step
        return c * (y - z) + (1 - self._beta(hyper) * (1 - c)) * step, new

    def evaluation_point(self, parameter, state, hyper):
        outwards = 1 - 1 / self._beta(hyper)
        return parameter + outwards * (state["z"] - parameter), state

    def training_point(self, parameter, state, hyper):
        return parameter + (1 - self._beta(hyper)) * (state["z"] - parameter), state

    def catch_up(self, state, skipped_steps, hyper):
        return hyper.parameter - state["z"], state

    def drift(self, hyper):
        c = self._share_of_z(hyper)
        # Where c is 1, y is z already: the weights so far were 0, and so the rates.
        rest = ops.where(c < 1, 1 - c, ops.ones_like(c))
        return c / rest, 1 - c


@keras.saving.register_keras_serializable(PACKAGE)
class ScheduleFreeSGD(_ScheduleFree):
    """Schedule-free SGD: an average of the iterates in place of a schedule.

    Gradients g are taken at y, which is what the variables hold while training goes
    on; z takes the steps, and x, the point to evaluate, is the average of all z. With
    the learning rate η, the momentum β and the weight decay λ at step t:

        y = (1 - β) z + β x
        γ = η min(1, t / warmup_steps)
        z ← z - γ (g + λ y)
        x ← (1 - c) x + c z,  c = wₜ / (w₁ + ... + wₜ),  wₜ = tʳ (largest γ so far)ᵖ

    Only y and z are kept; x = y + (1 - 1/β) (z - y).

    When to use: training without a known end, where the average stands in for a
        decaying rate. It wants a larger `learning_rate` than SGD with a schedule, and
        no schedule besides. Not where layers keep statistics of their inputs
        (BatchNormalization), which are those of y and not of x. What matters:
        `learning_rate`, `warmup_steps`, then `momentum`.

    Evaluation: `fit` ends at x, and a second `fit` goes on from y. Inside `fit`,
    `callbacks.EvaluateAveraged` validates and saves at x; without it, validation
    and checkpoints see y. In a loop of one's own, call `to_evaluation` before and
    `to_training` after. The way there and back rounds like one more step. With
    `use_ema` the point to evaluate is the moving average of y instead.

    Sparse gradients, `"deferred"`: z stands still while the gradient is zero, and the
    distance from it shrinks: after d skipped steps y - z has lost the factor
    Π (1 - cₜ₊ⱼ), j = 1, ..., d. Exact. With weight decay there is no closed form, and
    the default is `"lazy"`.

    Raises:
        ValueError: As `AdaptiveOptimizer`; also if `cautious=True`, or if
            `sparse="deferred"` is asked for with weight decay.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.ScheduleFreeSGD(0.5), "mse")
    >>> callbacks = [keras_adaptive.callbacks.EvaluateAveraged()]

    References:

    - [Defazio et al., 2024](https://arxiv.org/abs/2405.15682)
    """

    learning_rate: LearningRate = hyperparameter(1.0)
    momentum: float = hyperparameter(
        0.9, INTERPOLATION, "β: how far y lies from z towards x."
    )
    warmup_steps: int = hyperparameter(
        0, Interval(0, whole=True), "For how many steps the rate grows linearly."
    )
    r: float = hyperparameter(
        0.0, NON_NEGATIVE, "Late steps weigh more: the power of t in their weights."
    )
    weight_lr_power: float = hyperparameter(
        2.0, NON_NEGATIVE, "p, the power of the rate in the weights."
    )

    def _beta(self, hyper):
        return hyper.momentum

    def _direction(self, gradient, state, hyper):
        return gradient, {}


class _ScheduleFreeAdam(_ScheduleFree):
    """Schedule-free with the second moment of Adam."""

    @property
    def slots(self):
        return {**_ScheduleFree.slots, "velocity": Slot(row_wise=self.row_wise)}

    def _beta(self, hyper):
        return hyper.beta_1

    def _direction(self, gradient, state, hyper):
        v = averaged(state["velocity"], self.squared(gradient), hyper.beta_2)
        root = ops.sqrt(unbiased(v, hyper.beta_2, hyper.step))
        return gradient / (root + hyper.epsilon), {"velocity": v}

    def catch_up(self, state, skipped_steps, hyper):
        direction, state = super().catch_up(state, skipped_steps, hyper)
        decay = ops.power(hyper.beta_2, skipped_steps)
        return direction, {**state, "velocity": decay * state["velocity"]}


@keras.saving.register_keras_serializable(PACKAGE)
class ScheduleFreeAdamW(_ScheduleFreeAdam):
    """Schedule-free AdamW: Adam's denominator, an average in place of a schedule.

    As `ScheduleFreeSGD`, with β₁ for β and, with the velocity v at step t,

        v ← β₂ v + (1 - β₂) g²
        z ← z - γ (g / (√(v / (1 - β₂ᵗ)) + ε) + λ y)

    When to use: where AdamW with a schedule is usual and the end of training is not
        known; the same memory. Not with BatchNormalization unless its statistics are
        measured anew at x. What matters: `learning_rate` (1 to 10 times AdamW's),
        `warmup_steps`, `beta_1` (nearer to 1 for long training), then
        `weight_decay`.

    Evaluation: as `ScheduleFreeSGD`; `callbacks.EvaluateAveraged` inside `fit`.

    Sparse gradients, `"deferred"`: as `ScheduleFreeSGD`; v decays by β₂ᵈ. Exact. With
    weight decay the default is `"lazy"`.

    Raises:
        ValueError: As `ScheduleFreeSGD`.

    Example:

    >>> import keras, keras_adaptive
    >>> optimizer = keras_adaptive.optimizers.ScheduleFreeAdamW(warmup_steps=100)
    >>> optimizer.sparse
    'deferred'

    References:

    - [Defazio et al., 2024](https://arxiv.org/abs/2405.15682)
    """

    learning_rate: LearningRate = hyperparameter(0.0025)
    beta_1: float = hyperparameter(
        0.9, INTERPOLATION, "How far y lies from z towards x."
    )
    beta_2: float = hyperparameter(0.999, DECAY_RATE, "Decay rate of the velocity.")
    epsilon: float = hyperparameter(
        1e-8,
        NON_NEGATIVE,
        """Keeps the denominator away from zero; beside the root of the unbiased
        v.""",
    )
    warmup_steps: int = hyperparameter(
        0, Interval(0, whole=True), "For how many steps the rate grows linearly."
    )
    r: float = hyperparameter(
        0.0, NON_NEGATIVE, "Late steps weigh more: the power of t in their weights."
    )
    weight_lr_power: float = hyperparameter(
        2.0, NON_NEGATIVE, "p, the power of the rate in the weights."
    )
    row_wise: bool = hyperparameter(False, doc="Keep one velocity a row, of mean(g²).")


@keras.saving.register_keras_serializable(PACKAGE)
class ScheduleFreeRAdam(_ScheduleFreeAdam):
    """Schedule-free RAdam: the warmup, too, follows from the second moment.

    As `ScheduleFreeAdamW`, with ρₜ and rₜ of `RAdam` and no `warmup_steps`:

        γ = η rₜ                                            where ρₜ > 4
        γ = 0, or z ← z - γ (g + λ y) with γ = η            before

    When to use: as `ScheduleFreeAdamW`, to have neither schedule nor warmup to tune;
        its warmup is 1 / (1 - β₂) steps long or so. What matters: `learning_rate`,
        `beta_1`, then `weight_decay`.

    Evaluation: as `ScheduleFreeSGD`; `callbacks.EvaluateAveraged` inside `fit`.

    Sparse gradients: as `ScheduleFreeAdamW`.

    Raises:
        ValueError: As `ScheduleFreeSGD`.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.ScheduleFreeRAdam(0.01), "mse")

    References:

    - [Defazio et al., 2024](https://arxiv.org/abs/2405.15682)
    - [Liu et al., 2019](https://arxiv.org/abs/1908.03265) for the rectification
    """

    learning_rate: LearningRate = hyperparameter(0.0025)
    beta_1: float = hyperparameter(
        0.9, INTERPOLATION, "How far y lies from z towards x."
    )
    beta_2: float = hyperparameter(
        0.999, DECAY_RATE, "Decay rate of the velocity. Up to `0.6` ρₜ never exceeds 4."
    )
    epsilon: float = hyperparameter(
        1e-8,
        NON_NEGATIVE,
        """Keeps the denominator away from zero; beside the root of the unbiased
        v.""",
    )
    r: float = hyperparameter(
        0.0, NON_NEGATIVE, "Late steps weigh more: the power of t in their weights."
    )
    weight_lr_power: float = hyperparameter(
        2.0, NON_NEGATIVE, "p, the power of the rate in the weights."
    )
    silent_sgd_phase: bool = hyperparameter(
        True,
        doc="""Stand still while ρₜ ≤ 4 (the first four steps by default) instead of
        taking steps of SGD.""",
    )
    row_wise: bool = hyperparameter(False, doc="Keep one velocity a row, of mean(g²).")

    def _rate(self, hyper):
        length, factor = rectification(hyper)
        before = hyper.number(0.0 if self.silent_sgd_phase else 1.0)
        return hyper.learning_rate * ops.where(length > 4, factor, before)

    def _direction(self, gradient, state, hyper):
        direction, new = super()._direction(gradient, state, hyper)
        length, _ = rectification(hyper)
        return ops.where(length > 4, direction, gradient), new
