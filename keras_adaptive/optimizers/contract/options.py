"""The options that every optimizer takes besides its own hyper-parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from keras.optimizers.schedules import LearningRateSchedule

from keras_adaptive.errors import did_you_mean
from keras_adaptive.optimizers.contract.constraints import (
    NON_NEGATIVE,
    NON_NEGATIVE_OR_NONE,
    POSITIVE_OR_NONE,
    Interval,
)
from keras_adaptive.optimizers.contract.hyperparameters import (
    Declared,
    hyperparameter,
)

LearningRate: TypeAlias = float | LearningRateSchedule | Callable[[], float]

SPARSE_MODES = ("deferred", "lazy", "dense")


class Options(Declared):
    """Declares the options: Keras's own, `cautious` and `sparse`."""

    learning_rate: LearningRate = hyperparameter(
        constraint=NON_NEGATIVE,
        doc="A float, a schedule, or a callable without arguments that returns it.",
    )
    weight_decay: float | None = hyperparameter(
        None,
        NON_NEGATIVE_OR_NONE,
        kw_only=True,
        doc="""Decoupled weight decay: before each step the weights shrink by
        `learning_rate * weight_decay` of themselves (arXiv:1711.05101).""",
    )
    clipnorm: float | None = hyperparameter(
        None, POSITIVE_OR_NONE, kw_only=True, doc="Clips the norm of each gradient."
    )
    clipvalue: float | None = hyperparameter(
        None, POSITIVE_OR_NONE, kw_only=True, doc="Clips each entry of a gradient."
    )
    global_clipnorm: float | None = hyperparameter(
        None,
        POSITIVE_OR_NONE,
        kw_only=True,
        doc="Clips the norm of all gradients together.",
    )
    use_ema: bool = hyperparameter(
        False,
        kw_only=True,
        doc="Whether to keep an exponential moving average of the weights.",
    )
    ema_momentum: float = hyperparameter(
        0.99, Interval(0.0, 1.0), kw_only=True, doc="The momentum of that average."
    )
    ema_overwrite_frequency: int | None = hyperparameter(
        None,
        Interval(1, whole=True, optional=True),
        kw_only=True,
        doc="""Overwrites the weights by their average every that many steps. The end of
        `fit` does so anyway.""",
    )
    loss_scale_factor: float | None = hyperparameter(
        None,
        POSITIVE_OR_NONE,
        kw_only=True,
        doc="Multiplies the loss, and divides the gradients.",
    )
    gradient_accumulation_steps: int | None = hyperparameter(
        None,
        Interval(2, whole=True, optional=True),
        kw_only=True,
        doc="""Updates every that many calls, by the mean of their gradients. As in
        Keras, schedules and the moving average count calls, not updates.""",
    )
    name: str | None = hyperparameter(
        None, kw_only=True, doc="The name of the optimizer."
    )
    cautious: bool = hyperparameter(
        False,
        kw_only=True,
        doc="""Whether to leave out of each step the entries that point against the
        gradient, and to scale the others by one over their share, at most 1000
        (arXiv:2411.16085). In deferred and dense updates of a table the share is of all
        entries, in lazy ones of the rows touched.""",
    )
    sparse: str | None = hyperparameter(
        None,
        kw_only=True,
        doc="""The treatment of rows that a sparse gradient does not touch.

        With `"deferred"` they move as if their gradient were zero, but only when they
        are next touched or flushed. Then all skipped steps are applied in closed form.
        The weights follow the dense trajectory at the price of the rows touched. A
        table that is small, or touched in most rows, is updated whole, since that costs
        less. With `"lazy"` they stand still, and so does their state. With `"dense"`
        every step updates the whole table.

        By default `"deferred"` where the rule has a closed form, else `"lazy"`. Sparse
        gradients exist on TensorFlow only, for `Embedding`, `ops.take` and `Dense` on a
        sparse input; elsewhere every gradient is dense and so is every update.""",
    )


def sparse_mode(owner: str, asked: str | None, refused: dict[str, str]) -> str:
    """Returns the mode of an optimizer's sparse updates.

    Args:
        owner: The class of the optimizer.
        asked: The argument `sparse`.
        refused: The modes that the optimizer does not support, and why.

    Raises:
        ValueError: The optimizer does not support the mode, or there is no such mode.
    """
    if asked is None:
        return next(mode for mode in SPARSE_MODES if mode not in refused)
    if asked not in SPARSE_MODES:
        raise ValueError(
            f"{owner}: `sparse` must be one of {', '.join(SPARSE_MODES)}. "
            f"Received: sparse={asked!r}.{did_you_mean(str(asked), SPARSE_MODES)}"
        )
    if asked in refused:
        raise ValueError(
            f"{owner}: sparse={asked!r} is not supported: {refused[asked]}"
        )
    return asked
