"""The options that every optimizer takes besides its own hyper-parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import keras
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
        NON_NEGATIVE,
        "A float, a schedule, or a callable without arguments that returns it.",
    )
    weight_decay: float | None = hyperparameter(
        NON_NEGATIVE_OR_NONE,
        """Decoupled weight decay: before each step the weights shrink by
        `learning_rate * weight_decay` of themselves (arXiv:1711.05101).""",
        default=None,
        kw_only=True,
    )
    clipnorm: float | None = hyperparameter(
        POSITIVE_OR_NONE, "Clips the norm of each gradient.", default=None, kw_only=True
    )
    clipvalue: float | None = hyperparameter(
        POSITIVE_OR_NONE, "Clips each entry of a gradient.", default=None, kw_only=True
    )
    global_clipnorm: float | None = hyperparameter(
        POSITIVE_OR_NONE,
        "Clips the norm of all gradients together.",
        default=None,
        kw_only=True,
    )
    use_ema: bool = hyperparameter(
        doc="Whether to keep an exponential moving average of the weights.",
        default=False,
        kw_only=True,
    )
    ema_momentum: float = hyperparameter(
        Interval(0.0, 1.0), "The momentum of that average.", default=0.99, kw_only=True
    )
    ema_overwrite_frequency: int | None = hyperparameter(
        Interval(1, whole=True, optional=True),
        """Overwrites the weights by their average every that many steps. The end of
        `fit` does so anyway.""",
        default=None,
        kw_only=True,
    )
    loss_scale_factor: float | None = hyperparameter(
        POSITIVE_OR_NONE,
        "Multiplies the loss, and divides the gradients.",
        default=None,
        kw_only=True,
    )
    gradient_accumulation_steps: int | None = hyperparameter(
        Interval(2, whole=True, optional=True),
        """Updates every that many calls, by the mean of their gradients. As in
        Keras, schedules and the moving average count calls, not updates.""",
        default=None,
        kw_only=True,
    )
    name: str | None = hyperparameter(
        doc="The name of the optimizer.", default=None, kw_only=True
    )
    cautious: bool = hyperparameter(
        doc="""Whether to leave out of each step the entries that point against the
        gradient, and to scale the others by one over their share, at most 1000
        (arXiv:2411.16085). In deferred and dense updates of a table the share is of all
        entries, in lazy ones of the rows touched.""",
        default=False,
        kw_only=True,
    )
    sparse: str | None = hyperparameter(
        doc="""The treatment of rows that a sparse gradient does not touch.

        With `"deferred"` they move as if their gradient were zero, but only when they
        are next touched or flushed. Then all skipped steps are applied in closed form.
        The weights follow the dense trajectory at the price of the rows touched. A
        table that is small, or touched in most rows, is updated whole, since that costs
        less. With `"lazy"` they stand still, and so does their state. With `"dense"`
        every step updates the whole table.

        `"deferred"` brings rows up to date at the end of `fit`, and in
        `finalize_variable_values`, `flush` and `callbacks.EvaluateAveraged`. Every 32nd
        step also brings the next rows of the table in turn up to date, as many as its
        gradient has. In a table of `V` rows, of which gradients have `n`, no row is
        ever more than `min(32 * ceil(V / n), 16384)` steps behind. Under
        `tf.distribute` with several replicas `"deferred"` is the same as `"dense"`, and
        `"lazy"` is an error.

        By default `"deferred"` where the rule has a closed form, else `"lazy"`. Sparse
        gradients exist on TensorFlow, for `Embedding`, `ops.take` and `Dense` on a
        sparse input, and on PyTorch, for `layers.Embedding`; elsewhere every gradient
        is dense and so is every update.""",
        default=None,
        kw_only=True,
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


def check_settable(optimizer: keras.optimizers.Optimizer, learning_rate: Any) -> None:
    """Checks that a learning rate may replace the one that an optimizer has.

    Raises:
        TypeError: The optimizer calls a function for its rate, and the new one is a
            number. (For a schedule, Keras raises the error itself.)
    """
    present = getattr(optimizer, "_learning_rate", None)
    if callable(learning_rate) or not callable(present):
        return
    if isinstance(present, (LearningRateSchedule, keras.Variable)):
        return
    owner = type(optimizer).__name__
    raise TypeError(
        f"{owner}: `learning_rate` cannot be set to {learning_rate!r}, because a "
        f"function computes it. Create {owner} with a number as its `learning_rate` to "
        "set it later, as `ReduceLROnPlateau` and `LearningRateScheduler` do; or set "
        "another function."
    )
