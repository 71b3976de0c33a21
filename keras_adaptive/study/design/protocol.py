"""The protocol by which all contenders of a study are tuned and judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import keras

from keras_adaptive.errors import InputError, counted
from keras_adaptive.plain_numbers import make_plain, plain
from keras_adaptive.study.design.contender import Contender
from keras_adaptive.study.design.tuner import Grid, Tuner
from keras_adaptive.study.design.workload import Budget

FIRST_TUNING_SEED = 10_000

MOMENTUM = Contender(
    partial(keras.optimizers.SGD, momentum=0.9), label="keras/sgd-momentum"
)
"""The default reference."""


@dataclass(frozen=True)
class Protocol:
    """The rules of a study.

    Every contender is tuned on each workload with the same number of trials, on the
    validation data and with separate tuning seeds. The chosen setting is then run with
    fresh seeds and judged on the test data. A seed gives every contender the same
    initial weights and the same batches.

    Args:
        tuning_trials: Settings that each contender tries on a workload.
        tuning_seeds: The runs of each setting during tuning: their number, or their
            seeds. One is the cheapest. Robustness is judged by these runs and cannot
            be decided with fewer than six.
        seeds: The runs of the chosen setting: their number, or their seeds. The other
            promises cannot be decided with fewer than six, and need some more on
            several workloads.
        budget: The length of every run; `None` for each workload's own budget.
        reference: The contender that the others are compared with. A `Contender` is
            added to the study; a string is the label of one that takes part. The
            default is SGD with momentum 0.9.
        widening_trials: Additional trials of each contender, which widen its grid
            while its best learning rate is at an edge.
        timed_runs: Short additional runs of every chosen setting where runs are
            compiled. They run alone by `fit` and tell the seconds of a step; 0 for
            none, and no times.
        target: The validation metric to reach, one for all workloads or one for each
            workload name. `None` takes the median over seeds of the best validation
            metric that the tuned reference reaches within three quarters of its
            budget, as in AlgoPerf (arXiv:2306.07179).
        tuner: Chooses the settings that are tried, such as `OptunaTuner()`; `None` for
            the grid. A tuner tries `tuning_trials` settings and widens nothing.

    Raises:
        InputError: If a number is not above 0, if a seed is used for both tuning and
            evaluation, or if `tuner` is not a tuner.

    Example:
        >>> protocol = Protocol(tuning_seeds=[99], seeds=2)
        >>> protocol.seeds_to_tune, protocol.evaluation_seeds
        ((99,), (0, 1))
    """

    tuning_trials: int = 9
    tuning_seeds: int | Sequence[int] = 1
    seeds: int | Sequence[int] = 10
    budget: Budget | None = None
    reference: Contender | str = MOMENTUM
    widening_trials: int = 4
    timed_runs: int = 3
    target: float | Mapping[str, float] | None = None
    tuner: Tuner | None = None

    def __post_init__(self) -> None:
        """Checks the numbers and the seeds."""
        make_plain(self, "tuning_trials", "widening_trials", "timed_runs", "target")
        make_plain(self, "tuning_seeds", "seeds")
        for field in ("tuning_seeds", "seeds"):
            if not isinstance(seeds := getattr(self, field), int):
                object.__setattr__(self, field, tuple(plain(each) for each in seeds))
        if isinstance(self.target, Mapping):
            targets = {name: plain(value) for name, value in self.target.items()}
            object.__setattr__(self, "target", targets)
        counted("Protocol: tuning_trials", self.tuning_trials)
        for name in ("widening_trials", "timed_runs"):
            if getattr(self, name) < 0:
                raise InputError(f"Protocol: {name} is below 0.")
        if self.budget is not None and not isinstance(self.budget, Budget):
            raise InputError(
                f"Protocol: budget is {self.budget!r}. Expected Epochs(n) or Steps(n)."
            )
        if self.tuner is not None and not isinstance(self.tuner, Tuner):
            raise InputError(
                f"Protocol: tuner is {self.tuner!r}. Expected OptunaTuner(...), or "
                "None for the grid."
            )
        both = set(self.seeds_to_tune) & set(self.evaluation_seeds)
        if both:
            raise InputError(
                f"Protocol: the seed {min(both)} is for both tuning and judging. "
                "A setting looks better than it is with the seed that chose it."
            )

    @property
    def tuning(self) -> Tuner:
        """What chooses the settings that are tried."""
        return self.tuner or Grid(self.widening_trials)

    @property
    def seeds_to_tune(self) -> tuple[int, ...]:
        """The seeds of the tuning runs, which choose the settings."""
        return _seeds("tuning_seeds", self.tuning_seeds, FIRST_TUNING_SEED)

    @property
    def evaluation_seeds(self) -> tuple[int, ...]:
        """The seeds of the runs that judge the chosen settings."""
        return _seeds("seeds", self.seeds, 0)


def _seeds(what: str, seeds: int | Sequence[int], first: int) -> tuple[int, ...]:
    """Returns the seeds that a count or a sequence stands for."""
    if isinstance(seeds, int):
        return tuple(range(first, first + counted(f"Protocol: {what}", seeds)))
    seeds = tuple(seeds)
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise InputError(
            f"Protocol: {what} is {seeds!r}. Expected a number of seeds, or different "
            "seeds of 0 and above, at least one."
        )
    return seeds
