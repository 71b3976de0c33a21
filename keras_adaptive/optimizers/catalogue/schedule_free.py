"""Schedule-free SGD, AdamW and RAdam: an average in place of a schedule."""

from __future__ import annotations

from typing import Any

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
    Hyper,
    Interval,
    LearningRate,
    Slot,
    State,
    hyperparameter,
)

INTERPOLATION = Interval(0.0, 1.0, open_high=True)


class _ScheduleFree(AdaptiveOptimizer):
    """Trains at y, between z, which takes the steps, and x, the average of all z.

    Subclasses define the direction of the steps (`_direction`) and where y lies between
    z and x (`_beta`). If y is z (`_trains_at_z`), the slot is x: y does not tell it.
    """

    # The mean of the weights: their sum would lose small ones in float32.
    global_slots = {"largest_rate": Slot(), "mean_weight": Slot()}
    warmup_steps: int = 0

    @property
    def slots(self) -> dict[str, Slot]:
        return {"x" if self._trains_at_z else "z": Slot(PARAMETER)}

    @property
    def _trains_at_z(self) -> bool:
        """Whether β is 0."""
        raise NotImplementedError

    def _beta(self, hyper: Hyper) -> Any:
        """Returns β, the position of y on the way from z to x."""
        raise NotImplementedError

    def _direction(
        self, gradient: Any, state: State, hyper: Hyper
    ) -> tuple[Any, State]:
        """Returns the direction in which z moves, and the new slots except z."""
        raise NotImplementedError

    def complete(self) -> None:
        if self.cautious:
            raise ValueError(
                f"{type(self).__name__}: cautious=True is not supported: it would "
                "leave out entries of the step of y but not of z, and x would no "
                "longer be the average of z."
            )

    def decayed(self, parameter: Any, hyper: Hyper) -> Any:
        return parameter

    def _rate(self, hyper: Hyper) -> Any:
        if not self.warmup_steps:
            return hyper.learning_rate
        warm = hyper.step / hyper.warmup_steps
        return hyper.learning_rate * ops.where(warm < 1, warm, ops.ones_like(warm))

    def _weight(self, largest_rate: Any, hyper: Hyper) -> Any:
        """Returns wₜ; 0 at rate 0, where z takes no step that x should follow."""
        by_step = ops.power(hyper.step, hyper.r)
        weight = by_step * ops.power(largest_rate, hyper.weight_lr_power)
        return ops.where(self._rate(hyper) > 0, weight, ops.zeros_like(weight))

    def reduce_stats(self, sums: State, old: State, hyper: Hyper) -> State:
        rate, largest = self._rate(hyper), old["largest_rate"]
        largest = ops.where(rate > largest, rate, largest)
        mean = old["mean_weight"]
        mean = mean + (self._weight(largest, hyper) - mean) / hyper.step
        return {"largest_rate": largest, "mean_weight": mean}

    def _share_of_z(self, hyper: Hyper) -> Any:
        """Returns c, the share of the new z in the average; 0 while all wₜ are 0."""
        total = hyper.step * hyper.global_state["mean_weight"]
        share = self._weight(hyper.global_state["largest_rate"], hyper) / total
        return ops.where(total > 0, share, ops.zeros_like(total))

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        direction, new = self._direction(gradient, state, hyper)
        y, c = hyper.parameter, self._share_of_z(hyper)
        if self.weight_decay:
            direction = direction + hyper.weight_decay * y
        step = self._rate(hyper) * direction
        if self._trains_at_z:
            x = state["x"]
            new["x"] = x + c * (y - step - x)
            return step, new
        z = state["z"]
        new["z"] = z - step
        return c * (y - z) + (1 - self._beta(hyper) * (1 - c)) * step, new

    def evaluation_point(
        self, parameter: Any, state: State, hyper: Hyper
    ) -> tuple[Any, State]:
        if self._trains_at_z:
            return state["x"], {**state, "x": parameter}
        outwards = 1 - 1 / self._beta(hyper)
        return parameter + outwards * (state["z"] - parameter), state

    def training_point(
        self, parameter: Any, state: State, hyper: Hyper
    ) -> tuple[Any, State]:
        if self._trains_at_z:
            return state["x"], {**state, "x": parameter}
        return parameter + (1 - self._beta(hyper)) * (state["z"] - parameter), state

    def refused_modes(self) -> dict[str, str]:
        if not self._trains_at_z:
            return super().refused_modes()
        why = (
            "with β = 0 the average x of a row has no closed form, and while the row "
            "stands still x must follow it. Use sparse='dense', or β > 0."
        )
        return dict.fromkeys(("deferred", "lazy"), why)

    def catch_up(
        self, state: State, skipped_steps: Any, hyper: Hyper
    ) -> tuple[Any, State]:
        return hyper.parameter - state["z"], state

    def drift(self, hyper: Hyper) -> tuple[Any, Any]:
        c = self._share_of_z(hyper)
        # If c is 1, all weights and rates so far were 0, and y still equals z.
        rest = ops.where(c < 1, 1 - c, ops.ones_like(c))
        return c / rest, 1 - c


@keras.saving.register_keras_serializable(PACKAGE)
class ScheduleFreeSGD(_ScheduleFree):
    """Schedule-free SGD: averages the iterates instead of following a schedule.

    Gradients g are computed at y, which the variables hold during training. z takes the
    steps. x, the evaluation point, is the average of all z. With the learning rate η,
    the momentum β and the weight decay λ at step t:

        y = (1 - β) z + β x
        γ = η min(1, t / warmup_steps)
        z ← z - γ (g + λ y)
        x ← (1 - c) x + c z,  c = wₜ / (w₁ + ... + wₜ),  wₜ = tʳ (largest γ so far)ᵖ

    Only y and z are kept, because x = y + (1 - 1/β) (z - y). β = 0 is Polyak-Ruppert
    averaging: SGD makes the steps, at y = z, and x is kept.

    When to use: for training without a known end, where the average replaces a decaying
        learning rate. Give it a larger `learning_rate` than SGD with a schedule, and no
        schedule. Avoid it where layers keep statistics of their inputs
        (BatchNormalization), because these belong to y and not to x. What matters:
        `learning_rate`, `warmup_steps`, then `momentum`.

    Evaluation: `fit` ends at x, and a second `fit` continues from y. Inside `fit`,
    `callbacks.EvaluateAveraged` validates and saves at x. Without it, validation and
    checkpoints use y. In a custom training loop, call `to_evaluation` before an
    evaluation and `to_training` after it. The way to x and back rounds like one more
    step. With `use_ema` the evaluation point is the moving average of y instead.

    Sparse gradients, `"deferred"`: while the gradient is zero, z stands still and y
    approaches it: d skipped steps multiply y - z by Π (1 - cₜ₊ⱼ), j = 1, ..., d. This
    is exact. With weight decay there is no closed form, and the default is `"lazy"`.
    With β = 0 there is none for x, and all updates are `"dense"`.

    Raises:
        ValueError: As for `AdaptiveOptimizer`, and if `cautious=True`, if
            `sparse="deferred"` is combined with weight decay, or if β = 0 is combined
            with `sparse` other than `"dense"`.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.ScheduleFreeSGD(0.5), "mse")
    >>> callbacks = [keras_adaptive.callbacks.EvaluateAveraged()]

    References:

    - [Defazio et al., 2024](https://arxiv.org/abs/2405.15682)
    """

    learning_rate: LearningRate = hyperparameter(default=1.0)
    momentum: float = hyperparameter(
        INTERPOLATION, "β, the position of y on the way from z to x.", default=0.9
    )
    warmup_steps: int = hyperparameter(
        Interval(0, whole=True),
        "The number of steps in which γ grows linearly.",
        default=0,
    )
    r: float = hyperparameter(
        NON_NEGATIVE, "r, the power of t in the weights of the average.", default=0.0
    )
    weight_lr_power: float = hyperparameter(
        NON_NEGATIVE, "p, the power of the largest γ in the weights.", default=2.0
    )

    @property
    def _trains_at_z(self) -> bool:
        return self.momentum == 0

    def _beta(self, hyper: Hyper) -> Any:
        return hyper.momentum

    def _direction(
        self, gradient: Any, state: State, hyper: Hyper
    ) -> tuple[Any, State]:
        return gradient, {}


class _ScheduleFreeAdam(_ScheduleFree):
    """Divides the steps by the root of Adam's second moment."""

    @property
    def slots(self) -> dict[str, Slot]:
        return {**super().slots, "velocity": Slot(row_wise=self.row_wise)}

    @property
    def _trains_at_z(self) -> bool:
        return self.beta_1 == 0

    def _beta(self, hyper: Hyper) -> Any:
        return hyper.beta_1

    def _direction(
        self, gradient: Any, state: State, hyper: Hyper
    ) -> tuple[Any, State]:
        v = averaged(state["velocity"], self.squared(gradient), hyper.beta_2)
        root = ops.sqrt(unbiased(v, hyper.beta_2, hyper.step))
        return gradient / (root + hyper.epsilon), {"velocity": v}

    def catch_up(
        self, state: State, skipped_steps: Any, hyper: Hyper
    ) -> tuple[Any, State]:
        direction, state = super().catch_up(state, skipped_steps, hyper)
        decay = ops.power(hyper.beta_2, skipped_steps)
        return direction, {**state, "velocity": decay * state["velocity"]}


@keras.saving.register_keras_serializable(PACKAGE)
class ScheduleFreeAdamW(_ScheduleFreeAdam):
    """Schedule-free AdamW: averages the iterates instead of following a schedule.

    It is `ScheduleFreeSGD` with Adam's denominator. β₁ takes the place of β, and with
    the velocity v at step t,

        v ← β₂ v + (1 - β₂) g²
        z ← z - γ (g / (√(v / (1 - β₂ᵗ)) + ε) + λ y)

    When to use: where AdamW with a schedule is usual and the end of training is not
        known. It takes the same memory. Avoid it with BatchNormalization, unless its
        statistics are measured again at x. What matters: `learning_rate` (1 to 10 times
        AdamW's), `warmup_steps`, `beta_1` (closer to 1 for long training), then
        `weight_decay`.

    Evaluation: as in `ScheduleFreeSGD`. Inside `fit`, use `callbacks.EvaluateAveraged`.

    Sparse gradients, `"deferred"`: as in `ScheduleFreeSGD`, and v decays by β₂ᵈ. This
    is exact. With weight decay the default is `"lazy"`.

    Raises:
        ValueError: As for `ScheduleFreeSGD`.

    Example:

    >>> import keras, keras_adaptive
    >>> optimizer = keras_adaptive.optimizers.ScheduleFreeAdamW(warmup_steps=100)
    >>> optimizer.sparse
    'deferred'

    References:

    - [Defazio et al., 2024](https://arxiv.org/abs/2405.15682)
    """

    learning_rate: LearningRate = hyperparameter(default=0.0025)
    beta_1: float = hyperparameter(
        INTERPOLATION, "β₁, the position of y on the way from z to x.", default=0.9
    )
    beta_2: float = hyperparameter(
        DECAY_RATE, "β₂, decay rate of the velocity.", default=0.999
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE, "ε, added to the root of the corrected velocity.", default=1e-8
    )
    warmup_steps: int = hyperparameter(
        Interval(0, whole=True),
        "The number of steps in which γ grows linearly.",
        default=0,
    )
    r: float = hyperparameter(
        NON_NEGATIVE, "r, the power of t in the weights of the average.", default=0.0
    )
    weight_lr_power: float = hyperparameter(
        NON_NEGATIVE, "p, the power of the largest γ in the weights.", default=2.0
    )
    row_wise: bool = hyperparameter(
        doc="Keeps one velocity a row, of mean(g²).", default=False
    )


@keras.saving.register_keras_serializable(PACKAGE)
class ScheduleFreeRAdam(_ScheduleFreeAdam):
    """Schedule-free RAdam: derives the warmup, too, from the second moment.

    It is `ScheduleFreeAdamW` with ρₜ and rₜ of `RAdam` and without `warmup_steps`:

        γ = η rₜ                                            where ρₜ > 4
        γ = 0, or z ← z - γ (g + λ y) with γ = η            before

    With β₂ ≤ `0.6`, ρₜ never exceeds 4.

    When to use: for the tasks of `ScheduleFreeAdamW`, if neither a schedule nor a
        warmup should need tuning. The warmup takes about 1 / (1 - β₂) steps. Avoid it
        where `ScheduleFreeAdamW` is to be avoided. What matters: `learning_rate`,
        `beta_1`, then `weight_decay`.

    Evaluation: as in `ScheduleFreeSGD`. Inside `fit`, use `callbacks.EvaluateAveraged`.

    Sparse gradients: as in `ScheduleFreeAdamW`.

    Raises:
        ValueError: As for `ScheduleFreeSGD`.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.ScheduleFreeRAdam(0.01), "mse")

    References:

    - [Defazio et al., 2024](https://arxiv.org/abs/2405.15682)
    - [Liu et al., 2019](https://arxiv.org/abs/1908.03265) for the rectification
    """

    learning_rate: LearningRate = hyperparameter(default=0.0025)
    beta_1: float = hyperparameter(
        INTERPOLATION, "β₁, the position of y on the way from z to x.", default=0.9
    )
    beta_2: float = hyperparameter(
        DECAY_RATE,
        "β₂, decay rate of the velocity; sets the warmup's length.",
        default=0.999,
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE, "ε, added to the root of the corrected velocity.", default=1e-8
    )
    r: float = hyperparameter(
        NON_NEGATIVE, "r, the power of t in the weights of the average.", default=0.0
    )
    weight_lr_power: float = hyperparameter(
        NON_NEGATIVE, "p, the power of the largest γ in the weights.", default=2.0
    )
    silent_sgd_phase: bool = hyperparameter(
        doc="""Makes no steps while ρₜ ≤ 4 (the first four steps with the default β₂),
        instead of steps of SGD.""",
        default=True,
    )
    row_wise: bool = hyperparameter(
        doc="Keeps one velocity a row, of mean(g²).", default=False
    )

    def _rate(self, hyper: Hyper) -> Any:
        length, factor = rectification(hyper)
        before = hyper.number(0.0 if self.silent_sgd_phase else 1.0)
        return hyper.learning_rate * ops.where(length > 4, factor, before)

    def _direction(
        self, gradient: Any, state: State, hyper: Hyper
    ) -> tuple[Any, State]:
        direction, new = super()._direction(gradient, state, hyper)
        length, _ = rectification(hyper)
        return ops.where(length > 4, direction, gradient), new
