"""Tuners: they say which settings of a contender are tried next."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from keras_adaptive.study.design.contender import Contender
from keras_adaptive.study.design.grid import beyond_the_edge
from keras_adaptive.study.design.setting import Setting

Score = tuple[float, float]
HOPELESS: Score = (-math.inf, -math.inf)
"""The score of a setting that is never chosen."""

Watch = Callable[[int, float], bool]
"""Takes the step and the value of an evaluation and says whether the run ends there."""


@dataclass(frozen=True)
class Tried:
    """What came of a setting that was tried.

    Args:
        score: The validation metric at the end of training, then the loss. More is
            better.
        curve: The steps of the evaluations with their validation metrics, of which
            more is better.
        failed: Whether no run of it has a result.
        pruned: Whether a run of it was pruned.
    """

    score: Score
    curve: tuple[tuple[int, float], ...] = ()
    failed: bool = False
    pruned: bool = False


class Pruning(ABC):
    """Decides whether a tuning run is stopped early. It can be pickled."""

    @abstractmethod
    def watch(self) -> Watch:
        """Returns the function that is told every evaluation of the run."""


class Tuner(ABC):
    """Says which settings of a contender are tried next.

    Its answers depend on its arguments only, so an interrupted study goes on as it
    would have without the interruption.
    """

    @property
    def prunes(self) -> bool:
        """Whether it stops runs early."""
        return False

    @abstractmethod
    def span(self, contender: Contender, trials: int) -> list[Setting]:
        """Returns settings between which all others lie, before any run.

        Args:
            contender: The contender.
            trials: The number of settings that it may try.

        Returns:
            The settings, ordered by learning rate; only one if the setting is fixed.

        Raises:
            InputError: If the contender cannot be tuned so.
        """

    @abstractmethod
    def settings(
        self, contender: Contender, trials: int, tried: Mapping[Setting, Tried]
    ) -> list[Setting]:
        """Returns all settings to try, as far as they are known.

        Args:
            contender: The contender, whose setting is not fixed.
            trials: The number of settings that it may try.
            tried: What came of the settings that were tried.

        Returns:
            The settings in the order in which they were chosen. If all of them were
            tried, tuning is over.
        """

    def pruning(
        self,
        settings: Sequence[Setting],
        setting: Setting,
        tried: Mapping[Setting, Tried],
    ) -> Pruning | None:
        """Returns what decides whether a run is stopped early, if anything does.

        Args:
            settings: The settings to try, as from `settings`.
            setting: The setting of the run.
            tried: What came of the runs with the same seed, by their settings.
        """
        return None


@dataclass(frozen=True)
class Grid(Tuner):
    """Tries a grid, and widens it while its best learning rate is at an edge.

    Args:
        widening_trials: The number of additional trials.
    """

    widening_trials: int

    def span(self, contender: Contender, trials: int) -> list[Setting]:
        """Returns the grid, see `Tuner`."""
        return contender.grid(trials)

    def settings(
        self, contender: Contender, trials: int, tried: Mapping[Setting, Tried]
    ) -> list[Setting]:
        """Returns the grid as far as it is widened, see `Tuner`."""
        settings = contender.grid(trials)
        limit = len(settings) + self.widening_trials
        while all(setting in tried for setting in settings):
            scores = {setting: tried[setting].score for setting in settings}
            wider = _wider(contender, scores)
            if not wider or len(settings) + len(wider) > limit:
                break
            settings += wider
        return settings


def _wider(contender: Contender, scores: Mapping[Setting, Score]) -> list[Setting]:
    """Returns the settings that widen a grid, none if its best is inside."""
    by_rate: dict[float, Score] = {}
    for setting, score in scores.items():
        rate = setting.learning_rate
        by_rate[rate] = max(score, by_rate.get(rate, HOPELESS))
    if max(by_rate.values()) == HOPELESS:
        return []
    beyond = beyond_the_edge(by_rate)
    return contender.settings_at(beyond) if beyond else []
