"""The next runs, as a function of what was asked for and of the runs that are done."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from keras_adaptive.study.design.contender import Contender
from keras_adaptive.study.design.grid import beyond_the_edge
from keras_adaptive.study.design.protocol import Protocol
from keras_adaptive.study.design.setting import Setting
from keras_adaptive.study.execution.prepared_workload import PreparedWorkload
from keras_adaptive.study.execution.trial import Trial
from keras_adaptive.study.ledger.fingerprint import Engine, described, digest
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


class OptimizerOfSetting(NamedTuple):
    """What the runs of a setting record of their optimizer, whatever their seed.

    Args:
        digest: A digest of everything that it reaches.
        params: Its class and its configuration.
    """

    digest: str
    params: dict[str, str]


@dataclass
class Plan:
    """The runs of a contender on a workload.

    Args:
        prepared: The workload with its data.
        contender: The contender.
        protocol: The protocol.
        engine: Makes the runs: `"fit"` or `"compiled"`.
        why_fit: Why the runs cannot be compiled, if that was tried.
    """

    prepared: PreparedWorkload
    contender: Contender
    protocol: Protocol
    engine: Engine = "fit"
    why_fit: str = ""
    _trials: dict[tuple[Setting, Phase, int], Trial] = field(default_factory=dict)
    _optimizers: dict[Setting, OptimizerOfSetting] = field(default_factory=dict)

    def by(self, engine: Engine, why_fit: str = "") -> Plan:
        """Returns the same plan for another engine."""
        return replace(self, engine=engine, why_fit=why_fit, _trials={})

    def samples(self) -> list[Trial]:
        """Returns the runs of the lowest and of the highest learning rate."""
        settings = self.contender.grid(self.protocol.tuning_trials)
        seed = self.protocol.evaluation_seeds[0]
        ends = dict.fromkeys([settings[0], settings[-1]])
        return [self._trial(setting, "compare", seed) for setting in ends]

    def progress(self, records: Mapping[str, Record]) -> TuningProgress:
        """Returns which runs are done and which are next.

        The grid of the contender is run first. While its best learning rate is at an
        edge and the protocol allows more trials, the grid is widened there. The best
        setting is then run with the evaluation seeds.

        Args:
            records: The runs that are done, by their keys.
        """
        settings = self.contender.grid(self.protocol.tuning_trials)
        if len(settings) == 1:
            done, missing = self._judged(settings[0], records)
            return TuningProgress(done, missing, 0, settings[0])
        limit = len(settings) + self.protocol.widening_trials
        while True:
            tuned, missing = self._split(
                settings, "tune", self.protocol.seeds_to_tune, records
            )
            if missing:
                later = len(self.protocol.evaluation_seeds) + len(self._timed_seeds)
                return TuningProgress(tuned, missing, len(settings), None, later)
            scores = scores_of(tuned)
            wider = self._wider(scores)
            if not wider or len(settings) + len(wider) > limit:
                break
            settings += wider
        best = max(sorted(scores, key=_order), key=lambda setting: scores[setting])
        if scores[best] == HOPELESS:
            return TuningProgress(tuned, [], len(settings), None)
        done, missing = self._judged(best, records)
        return TuningProgress(tuned + done, missing, len(settings), best)

    def _judged(
        self, setting: Setting, records: Mapping[str, Record]
    ) -> tuple[list[Record], list[Trial]]:
        """Splits the runs that judge a setting, and those that time it."""
        seeds = self.protocol.evaluation_seeds
        done, missing = self._split([setting], "compare", seeds, records)
        timed, untimed = self._split([setting], "time", self._timed_seeds, records)
        return done + timed, missing + untimed

    @property
    def _timed_seeds(self) -> Sequence[int]:
        """The seeds of the runs that are timed, since compiled ones cannot be."""
        if self.engine == "fit":
            return ()
        return self.protocol.evaluation_seeds[: self.protocol.timed_runs]

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

    @cached_property
    def _program(self) -> str:
        """A digest of what a compiled program is made of."""
        return digest([self.prepared.description, self.contender.label, self._maker])

    def _optimizer(self, setting: Setting) -> OptimizerOfSetting:
        if setting not in self._optimizers:
            optimizer = self.contender.make(setting)
            called = f"The optimizer of {self.contender.label!r}"
            config = flatten(optimizer.get_config(), "optimizer")
            self._optimizers[setting] = OptimizerOfSetting(
                describe(optimizer, called),
                {"optimizer": type(optimizer).__name__, **config},
            )
        return self._optimizers[setting]

    def _new_trial(self, setting: Setting, phase: Phase, seed: int) -> Trial:
        prepared = self.prepared
        engine: Engine = "fit" if phase == "time" else self.engine
        running_on = described(engine)
        budget = prepared.timed_budget if phase == "time" else prepared.budget
        rows, batch_size = len(prepared.data.train.y), prepared.workload.batch_size
        steps = budget.steps(rows, batch_size)
        optimizer = self._optimizer(setting)
        key = digest(
            {
                **prepared.description,
                "steps": steps,
                "contender": [
                    self.contender.label,
                    self._maker,
                    optimizer.digest,
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
            "batch_size": str(batch_size),
            "steps": str(steps),
            **running_on,
            **({"why_fit": self.why_fit} if self.why_fit else {}),
            **optimizer.params,
        }
        return Trial(
            key=key,
            workload=prepared.workload,
            budget=budget,
            contender=self.contender,
            setting=setting,
            phase=phase,
            seed=seed,
            params=params,
            program=self._program if engine == "compiled" else "",
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
