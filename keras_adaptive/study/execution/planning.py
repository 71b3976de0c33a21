"""The next runs, as a function of what was asked for and of the runs that are done."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from keras_adaptive.study.design.contender import Contender
from keras_adaptive.study.design.protocol import Protocol
from keras_adaptive.study.design.setting import Setting
from keras_adaptive.study.design.tuner import HOPELESS, Pruning, Tried
from keras_adaptive.study.execution.prepared_workload import PreparedWorkload
from keras_adaptive.study.execution.trial import Trial
from keras_adaptive.study.ledger.fingerprint import Engine, described, digest
from keras_adaptive.study.ledger.reach.graph import describe
from keras_adaptive.study.ledger.record import Phase, Record
from keras_adaptive.study.ledger.run_values import flatten


@dataclass(frozen=True)
class TuningProgress:
    """The progress of a contender on a workload.

    Args:
        done: The runs that are done, tuning first.
        missing: The runs that can be made now.
        trials: The number of settings that were chosen so far; 0 if the setting is
            fixed.
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


Run = tuple[Setting, Phase, int, Pruning | None]
"""Setting, phase and seed of a run, and what may stop it."""

Outcomes = tuple[tuple[Setting, Tried], ...]
"""What came of the settings that were tried."""


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
    _trials: dict[Run, Trial] = field(default_factory=dict)
    _chosen: dict[Outcomes, list[Setting]] = field(default_factory=dict)
    _optimizers: dict[Setting, OptimizerOfSetting] = field(default_factory=dict)

    def by(self, engine: Engine, why_fit: str = "") -> Plan:
        """Returns the same plan for another engine."""
        return replace(self, engine=engine, why_fit=why_fit, _trials={})

    def samples(self) -> list[Trial]:
        """Returns the runs of the lowest and of the highest learning rate."""
        seed = self.protocol.evaluation_seeds[0]
        ends = dict.fromkeys([self._span[0], self._span[-1]])
        return [self._trial(setting, "compare", seed) for setting in ends]

    def progress(self, records: Mapping[str, Record]) -> TuningProgress:
        """Returns which runs are done and which are next.

        The settings that the protocol's grid or tuner chooses are run first, as far as
        the runs before tell which. The best setting is then run with the evaluation
        seeds.

        Args:
            records: The runs that are done, by their keys.
        """
        if len(self._span) == 1:
            (fixed,) = self._span
            done, missing = self._judged(fixed, records)
            return TuningProgress(done, missing, 0, fixed)
        tried: dict[Setting, Tried] = {}
        settings = self._settings(tried)
        while True:
            tuned, missing = self._tuning(settings, records)
            if missing:
                later = self._later(len(settings))
                return TuningProgress(tuned, missing, len(settings), None, later)
            tried = tried_settings(tuned)
            known, settings = settings, self._settings(tried)
            if settings == known:
                break
        best = max(sorted(tried, key=_order), key=lambda setting: tried[setting].score)
        if tried[best].score == HOPELESS:
            return TuningProgress(tuned, [], len(settings), None)
        done, missing = self._judged(best, records)
        return TuningProgress(tuned + done, missing, len(settings), best)

    @cached_property
    def _span(self) -> list[Setting]:
        """Settings between which all others lie, only one if it is fixed."""
        protocol = self.protocol
        return protocol.tuning.span(self.contender, protocol.tuning_trials)

    def _settings(self, tried: Mapping[Setting, Tried]) -> list[Setting]:
        """Returns the settings to try as far as they are known."""
        outcomes = tuple(tried.items())
        if outcomes not in self._chosen:
            protocol = self.protocol
            self._chosen[outcomes] = protocol.tuning.settings(
                self.contender, protocol.tuning_trials, tried
            )
        return self._chosen[outcomes]

    def _later(self, trials: int) -> int:
        """Returns the number of runs that will follow those of some trials."""
        untried = max(0, self.protocol.tuning_trials - trials)
        tuning = untried * len(self.protocol.seeds_to_tune)
        return tuning + len(self.protocol.evaluation_seeds) + len(self._timed_seeds)

    def _tuning(
        self, settings: Sequence[Setting], records: Mapping[str, Record]
    ) -> tuple[list[Record], list[Trial]]:
        """Splits the runs that tune into those done and those missing."""
        done, missing = [], []
        tuner = self.protocol.tuning
        for seed in self.protocol.seeds_to_tune:
            tried: dict[Setting, Tried] = {}
            for setting in dict.fromkeys(settings):
                pruning = tuner.pruning(settings, setting, tried)
                trial = self._trial(setting, "tune", seed, pruning)
                if trial.key in records:
                    record = records[trial.key]
                    done.append(record)
                    tried[setting] = tried_with([record])
                else:
                    missing.append(trial)
        return done, missing

    def _judged(
        self, setting: Setting, records: Mapping[str, Record]
    ) -> tuple[list[Record], list[Trial]]:
        """Splits the runs that judge a setting, and those that time it."""
        seeds = self.protocol.evaluation_seeds
        done, missing = self._split(setting, "compare", seeds, records)
        timed, untimed = self._split(setting, "time", self._timed_seeds, records)
        return done + timed, missing + untimed

    @property
    def _timed_seeds(self) -> Sequence[int]:
        """The seeds of the runs that are timed, since compiled ones cannot be."""
        if self.engine == "fit":
            return ()
        return self.protocol.evaluation_seeds[: self.protocol.timed_runs]

    def _split(
        self,
        setting: Setting,
        phase: Phase,
        seeds: Sequence[int],
        records: Mapping[str, Record],
    ) -> tuple[list[Record], list[Trial]]:
        """Splits runs into the records of those done and the trials of the others."""
        done, missing = [], []
        for seed in seeds:
            trial = self._trial(setting, phase, seed)
            if trial.key in records:
                done.append(records[trial.key])
            else:
                missing.append(trial)
        return done, missing

    def _trial(
        self,
        setting: Setting,
        phase: Phase,
        seed: int,
        pruning: Pruning | None = None,
    ) -> Trial:
        which = setting, phase, seed, pruning
        if which not in self._trials:
            self._trials[which] = self._new_trial(*which)
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

    def _new_trial(
        self, setting: Setting, phase: Phase, seed: int, pruning: Pruning | None
    ) -> Trial:
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
                **({"pruning": describe(pruning, "The pruner")} if pruning else {}),
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
            **({"pruner": str(pruning)} if pruning else {}),
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
            pruning=pruning,
        )


def _order(setting: Setting) -> tuple[float, float]:
    """Sorts settings such that `max` chooses the lowest of equals."""
    extra = setting.extra_hyperparameter
    return setting.learning_rate, extra[1] if extra else 0.0


def tried_settings(records: Sequence[Record]) -> dict[Setting, Tried]:
    """Returns what came of each setting, from all its tuning runs."""
    groups: dict[Setting, list[Record]] = {}
    for record in records:
        groups.setdefault(record.setting, []).append(record)
    return {setting: tried_with(group) for setting, group in groups.items()}


def tried_with(records: Sequence[Record]) -> Tried:
    """Returns what came of a setting: the medians over its runs.

    Args:
        records: The tuning runs of the setting, one for each seed.
    """
    pruned = any(record.status == "pruned" for record in records)
    metrics, losses = zip(*(record.score for record in records), strict=True)
    score = statistics.median(metrics), statistics.median(losses)
    return Tried(
        HOPELESS if pruned else score,
        _median_course([record.course for record in records]),
        failed=all(record.status == "failed" for record in records),
        pruned=pruned,
    )


def _median_course(
    courses: Sequence[Mapping[int, float]],
) -> tuple[tuple[int, float], ...]:
    """Returns the medians at the steps at which every run was evaluated."""
    first, *others = courses
    return tuple(
        (step, statistics.median(course[step] for course in courses))
        for step in first
        if all(step in course for course in others)
    )
