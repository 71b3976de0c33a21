"""The next runs, as a function of what was asked for and of the runs that are done."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from keras_adaptive.study.design.contender import Contender
from keras_adaptive.study.design.grid import beyond_the_edge
from keras_adaptive.study.design.protocol import Protocol
from keras_adaptive.study.design.setting import Setting
from keras_adaptive.study.execution.prepared_workload import PreparedWorkload
from keras_adaptive.study.execution.trial import Trial
from keras_adaptive.study.ledger.fingerprint import digest, engine, machine
from keras_adaptive.study.ledger.reach.graph import describe
from keras_adaptive.study.ledger.record import Phase, Record
from keras_adaptive.study.ledger.run_values import flatten

Score = tuple[float, float]
HOPELESS: Score = (-math.inf, -math.inf)


@dataclass(frozen=True)
class TuningProgress:
    """The progress of a contender on a workload.

    Args:
        done: The runs that are done, tuning first.
        missing: The runs that can be made now.
        trials: The number of settings tried so far; 0 if the setting is fixed.
        chosen: The chosen setting; `None` if it is not known yet, or if no setting
            worked.
        later: The number of runs that will follow those in `missing`, at least.
    """

    done: list[Record]
    missing: list[Trial]
    trials: int
    chosen: Setting | None
    later: int = 0

    @property
    def total(self) -> int:
        """The number of runs in all, as far as it is known."""
        return len(self.done) + len(self.missing) + self.later


@dataclass
class Plan:
    """The runs of a contender on a workload.

    Args:
        prepared: The workload with its data.
        contender: The contender.
        protocol: The protocol.
    """

    prepared: PreparedWorkload
    contender: Contender
    protocol: Protocol
    _trials: dict[tuple[Setting, Phase, int], Trial] = field(default_factory=dict)

    def progress(self, records: Mapping[str, Record]) -> TuningProgress:
        """Returns which runs are done and which are next.

        The grid of the contender is run first. While its best learning rate is at an
        edge and the protocol allows more trials, the grid is widened there. The best
        setting is then run with the evaluation seeds.

        Args:
            records: The runs that are done, by their keys.
        """
        settings = self.contender.grid(self.protocol.tuning_trials)
        seeds = self.protocol.evaluation_seeds
        if len(settings) == 1:
            done, missing = self._split(settings, "compare", seeds, records)
            return TuningProgress(done, missing, 0, settings[0])
        limit = len(settings) + self.protocol.widening_trials
        while True:
            tuned, missing = self._split(
                settings, "tune", self.protocol.seeds_to_tune, records
            )
            if missing:
                return TuningProgress(tuned, missing, len(settings), None, len(seeds))
            scores = scores_of(tuned)
            wider = self._wider(scores)
            if not wider or len(settings) + len(wider) > limit:
                break
            settings += wider
        best = max(sorted(scores, key=_order), key=lambda setting: scores[setting])
        if scores[best] == HOPELESS:
            return TuningProgress(tuned, [], len(settings), None)
        done, missing = self._split([best], "compare", seeds, records)
        return TuningProgress(tuned + done, missing, len(settings), best)

    def _wider(self, scores: Mapping[Setting, Score]) -> list[Setting]:
        """Returns the settings that widen the grid, none if its best is inside."""
        by_rate: dict[float, Score] = {}
        for setting, score in scores.items():
            rate = setting.learning_rate
            by_rate[rate] = max(score, by_rate.get(rate, HOPELESS))
        if max(by_rate.values()) == HOPELESS:
            return []
        beyond = beyond_the_edge(by_rate)
        return self.contender.settings_at(beyond) if beyond else []

    def _split(
        self,
        settings: Sequence[Setting],
        phase: Phase,
        seeds: Sequence[int],
        records: Mapping[str, Record],
    ) -> tuple[list[Record], list[Trial]]:
        """Splits runs into the records of those done and the trials of the others."""
        done, missing = [], []
        for seed in seeds:
            for setting in settings:
                trial = self._trial(setting, phase, seed)
                if trial.key in records:
                    done.append(records[trial.key])
                else:
                    missing.append(trial)
        return done, missing

    def _trial(self, setting: Setting, phase: Phase, seed: int) -> Trial:
        which = setting, phase, seed
        if which not in self._trials:
            self._trials[which] = self._new_trial(setting, phase, seed)
        return self._trials[which]

    @cached_property
    def _maker(self) -> str:
        """A digest of the function that makes the optimizer, or of its name."""
        called = f"The optimizer of {self.contender.label!r}"
        return describe(self.contender.optimizer, called)

    def _new_trial(self, setting: Setting, phase: Phase, seed: int) -> Trial:
        prepared, running_on = self.prepared, engine()
        optimizer = self.contender.make(setting)
        key = digest(
            {
                **prepared.description,
                "contender": [
                    self.contender.label,
                    self._maker,
                    describe(optimizer, f"The optimizer of {self.contender.label!r}"),
                ],
                "setting": [setting.learning_rate, setting.extra_hyperparameter],
                "phase": phase,
                "seed": seed,
                "engine": running_on,
            }
        )
        params = {
            "data": prepared.data.name,
            "data_digest": prepared.data.digest,
            "data_source": prepared.data.source,
            "batch_size": str(prepared.workload.batch_size),
            "steps": str(prepared.steps),
            **running_on,
            **machine(),
            "optimizer": type(optimizer).__name__,
            **flatten(optimizer.get_config(), "optimizer"),
        }
        return Trial(
            key=key,
            workload=prepared.workload,
            budget=prepared.budget,
            contender=self.contender,
            setting=setting,
            phase=phase,
            seed=seed,
            params=params,
        )


def _order(setting: Setting) -> tuple[float, float]:
    """Sorts settings such that `max` chooses the lowest of equals."""
    extra = setting.extra_hyperparameter
    return setting.learning_rate, extra[1] if extra else 0.0


def scores_of(records: Sequence[Record]) -> dict[Setting, Score]:
    """Returns the score of each setting: the medians of metric and loss over seeds."""
    groups: dict[Setting, list[Score]] = {}
    for record in records:
        groups.setdefault(record.setting, []).append(record.score)
    return {
        setting: (
            statistics.median(metric for metric, _ in scores),
            statistics.median(loss for _, loss in scores),
        )
        for setting, scores in groups.items()
    }
