"""How contenders are tuned and judged: the same way for everybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import keras

from keras_adaptive.errors import StudyError, counted
from keras_adaptive.study.design.contender import Contender
from keras_adaptive.study.design.workload import Budget

FIRST_TUNING_SEED = 10_000

MOMENTUM = Contender(
    partial(keras.optimizers.SGD, momentum=0.9), label="keras/sgd-momentum"
)
"""The reference unless another is named."""


@dataclass(frozen=True)
class Protocol:
    """The rules of a study.

    Every contender is tuned on each workload with the same number of trials, on the
    validation data and with seeds of its own. Its setting is then run with fresh
    seeds and judged on the test data. A seed gives every contender the same initial
    weights and the same batches.

    Args:
        tuning_trials: Settings that each contender may try on a workload.
        tuning_seeds: Runs of each setting when tuning: how many, or their seeds. With
            one, settings are chosen at the lowest price; robustness, which is judged
            by these runs, cannot be decided with fewer than six.
        seeds: Runs of the chosen setting: how many, or their seeds. The other
            promises cannot be decided with fewer than six, and on several workloads
            it takes some more.
        budget: How long every run trains; `None` for each workload's own budget.
        reference: Who the others are compared with: a contender, which is added to
            the study, or the label of one that takes part. The default is SGD with
            momentum 0.9.
        widening_trials: Trials that each contender may have on top of
            `tuning_trials`, to widen its grid while its best is at an edge.
        target: The value of the validation metric whose first reaching is timed, of
            all workloads or of each by its name. `None` for the median over seeds
            of the best validation metric of the tuned reference within three quarters
            of its budget, as AlgoPerf has it (arXiv:2306.07179).

    Raises:
        StudyError: If a number is not above 0, or a seed is for both tuning and
            judging.

    Example:

    >>> Protocol(seeds=2).evaluation_seeds, Protocol(tuning_seeds=[99]).seeds_to_tune
    ((0, 1), (99,))
    """

    tuning_trials: int = 9
    tuning_seeds: int | Sequence[int] = 1
    seeds: int | Sequence[int] = 10
    budget: Budget | None = None
    reference: Contender | str = MOMENTUM
    widening_trials: int = 4
    target: float | Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        counted("Protocol: tuning_trials", self.tuning_trials)
        if self.widening_trials < 0:
            raise StudyError("Protocol: widening_trials is below 0.")
        if self.budget is not None and not isinstance(self.budget, Budget):
            raise StudyError(
                f"Protocol: budget is {self.budget!r}. Expected Epochs(n) or Steps(n)."
            )
        both = set(self.seeds_to_tune) & set(self.evaluation_seeds)
        if both:
            raise StudyError(
                f"Protocol: the seed {min(both)} is for both tuning and judging. "
                "A setting looks better than it is with the seed that chose it."
            )

    @property
    def seeds_to_tune(self) -> tuple[int, ...]:
        """The seeds that settings are chosen by."""
        return _seeds("tuning_seeds", self.tuning_seeds, FIRST_TUNING_SEED)

    @property
    def evaluation_seeds(self) -> tuple[int, ...]:
        """The seeds that chosen settings are judged by."""
        return _seeds("seeds", self.seeds, 0)


def _seeds(what: str, seeds: int | Sequence[int], first: int) -> tuple[int, ...]:
    """Returns seeds given as a count or one by one."""
    if isinstance(seeds, int):
        return tuple(range(first, first + counted(f"Protocol: {what}", seeds)))
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise StudyError(
            f"Protocol: {what} is {seeds!r}. Expected a number of seeds, or different "
            "seeds of 0 and above, at least one."
        )
    return tuple(seeds)
