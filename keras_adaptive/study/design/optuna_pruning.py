"""Pruning by Optuna: runs that look bad beside those of earlier rounds end early."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from keras_adaptive.errors import needs_extra
from keras_adaptive.study.design.tuner import Pruning, Score, Tried, Watch

with needs_extra("optuna"):
    import optuna
    from optuna.pruners import BasePruner, NopPruner
    from optuna.samplers import BaseSampler, RandomSampler
    from optuna.trial import TrialState

TIE = 1e-9
"""The largest part of the metric by which the loss decides between equal metrics."""


@dataclass(frozen=True)
class OptunaPruning(Pruning):
    """Asks a pruner of Optuna after each evaluation of a run.

    The pruner sees the trials of the rounds before. It does not see those of the same
    round, since nobody knows which of them would end first.

    Args:
        pruner: The pruner.
        number: The number of the trial, counted from 0.
        earlier: The trials of earlier rounds, in the order of their numbers, as they
            came out with the seed of the run.
    """

    pruner: BasePruner
    number: int
    earlier: tuple[Tried, ...]

    def __str__(self) -> str:
        """Returns the pruner and what it knows, in words."""
        name = type(self.pruner).__name__
        return f"{name}, trial {self.number} after {len(self.earlier)} trials"

    def watch(self) -> Watch:
        """Returns the function that asks the pruner, see `Pruning`."""
        with quiet():
            study = new_study(RandomSampler(seed=0), self.pruner)
            for tried in self.earlier:
                tell(study, study.ask(), tried)
            for _ in range(len(self.earlier), self.number):
                study.ask()
            trial = study.ask()

        def prunes(step: int, value: float) -> bool:
            with quiet():
                trial.report(value, step)
                return bool(trial.should_prune())

        return prunes


def new_study(sampler: BaseSampler, pruner: BasePruner | None) -> optuna.Study:
    """Returns a study of Optuna in memory, whose values are better if they are more.

    Args:
        sampler: Chooses the settings.
        pruner: Stops trials; `None` for none. It is copied, since it may keep notes.
    """
    return optuna.create_study(
        study_name="keras-adaptive",  # some pruners draw from it
        direction="maximize",
        sampler=sampler,
        pruner=copy.deepcopy(pruner) if pruner else NopPruner(),
    )


def tell(study: optuna.Study, trial: optuna.Trial, tried: Tried) -> None:
    """Tells a study what came of a trial.

    A setting that diverged has the worst value. One whose runs failed has none, since
    an error says nothing about the setting.

    Args:
        study: The study.
        trial: A trial that it was asked for.
        tried: What came of its setting.
    """
    for step, value in tried.curve:
        trial.report(value, step)
        trial.should_prune()  # so that the pruner takes its notes
    if tried.pruned:
        study.tell(trial, state=TrialState.PRUNED)
    elif tried.failed:
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, value_of(tried.score))


def value_of(score: Score) -> float:
    """Returns one number for a score: the metric, and of equal metrics the loss.

    Example:
        >>> value_of((0.5, -1.0)) > value_of((0.5, -2.0)) > value_of((0.4, 0.0))
        True
    """
    metric, loss = score
    if not math.isfinite(loss):
        return metric
    return metric + TIE * (abs(metric) or 1) * loss / (1 + abs(loss))


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Optuna's notes and its warnings of experimental parts from the terminal."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
