"""What is to be run next, from nothing but what was asked for and what is done."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from keras_adaptive.study.design.contender import Contender, Setting
from keras_adaptive.study.design.grid import beyond_the_edge
from keras_adaptive.study.design.protocol import Protocol
from keras_adaptive.study.execution.prepared_workload import Task
from keras_adaptive.study.execution.training import Trial
from keras_adaptive.study.ledger.fingerprint import describe, digest, engine, machine
from keras_adaptive.study.ledger.mlflow_ledger import flatten
from keras_adaptive.study.ledger.record import Phase, Record

Score = tuple[float, float]
HOPELESS: Score = (-math.inf, -math.inf)
NONE_WORKED = "none worked"
"""What stands for the setting of a contender of which every one diverged or failed."""


@dataclass(frozen=True)
class Course:
    """How far a contender has come on a workload.

    Args:
        done: The runs that are done, tuning first.
        missing: The runs that can be made now.
        trials: How many settings it has been tuned with so far; 0 if its setting is
            fixed.
        chosen: The setting it is judged with, or `None` if that is not known yet or
            if no setting worked.
        ahead: How many runs there will be at least, after those in `missing`.
    """

    done: list[Record]
    missing: list[Trial]
    trials: int
    chosen: Setting | None
    ahead: int = 0


@dataclass
class Plan:
    """The runs of a contender on a workload.

    Args:
        task: The workload.
        contender: Who runs.
        protocol: By which rules.
        record_of: From the key of a run to its record, `None` if it is not done.
    """

    task: Task
    contender: Contender
    protocol: Protocol
    record_of: Callable[[str], Record | None]
    _trials: dict[tuple[Setting, Phase, int], Trial] = field(default_factory=dict)

    def course(self) -> Course:
        """Returns what is done and what is next.

        The contender's grid is run first. While its best learning rate is at an edge
        and the protocol allows for more trials, the grid is widened there. The best
        setting is then run with the seeds that are for judging.
        """
        settings = self.contender.grid(self.protocol.tuning_trials)
        judging = self.protocol.evaluation_seeds
        if len(settings) == 1:
            done, missing = self._runs(settings, "compare", judging)
            return Course(done, missing, 0, settings[0])
        limit = len(settings) + self.protocol.widening_trials
        while True:
            tuned, missing = self._runs(settings, "tune", self.protocol.seeds_to_tune)
            if missing:
                return Course(tuned, missing, len(settings), None, len(judging))
            scores = scores_of(tuned)
            wider = self._wider(scores)
            if not wider or len(settings) + len(wider) > limit:
                break
            settings += wider
        best = max(sorted(scores, key=_order), key=scores.get)
        if scores[best] == HOPELESS:
            return Course(tuned, [], len(settings), None)
        done, missing = self._runs([best], "compare", judging)
        return Course(tuned + done, missing, len(settings), best)

    def _wider(self, scores: dict[Setting, Score]) -> list[Setting]:
        """Returns the settings by which the grid is widened, if it is."""
        by_rate: dict[float, Score] = {}
        for setting, score in scores.items():
            rate = setting.learning_rate
            by_rate[rate] = max(score, by_rate.get(rate, HOPELESS))
        if max(by_rate.values()) == HOPELESS:
            return []
        rate = beyond_the_edge(by_rate)
        return [Setting(rate, each) for each in self.contender.seconds if rate]

    def _runs(
        self, settings: Sequence[Setting], phase: Phase, seeds: Sequence[int]
    ) -> tuple[list[Record], list[Trial]]:
        """Returns the records of runs that are done, and the trials that are not."""
        done, missing = [], []
        for seed in seeds:
            for setting in settings:
                trial = self._trial(setting, phase, seed)
                record = self.record_of(trial.key)
                if record is None:
                    missing.append(trial)
                else:
                    done.append(record)
        return done, missing

    def _trial(self, setting: Setting, phase: Phase, seed: int) -> Trial:
        known = self._trials.get((setting, phase, seed))
        if known:
            return known
        task, running_on = self.task, engine()
        optimizer = self.contender.make(setting)
        key = digest(
            {
                **task.description,
                "contender": [self.contender.label, describe(optimizer)],
                "setting": [setting.learning_rate, setting.second],
                "phase": phase,
                "seed": seed,
                "engine": running_on,
            }
        )
        params = {
            "data": task.data.name,
            "data_digest": task.data.digest,
            "data_source": task.data.source,
            "batch_size": str(task.workload.batch_size),
            "steps": str(task.steps),
            **running_on,
            **machine(),
            "optimizer": type(optimizer).__name__,
            **flatten(optimizer.get_config(), "optimizer"),
        }
        trial = Trial(
            key=key,
            workload=task.workload,
            budget=task.budget,
            contender=self.contender,
            setting=setting,
            phase=phase,
            seed=seed,
            params=params,
        )
        self._trials[setting, phase, seed] = trial
        return trial


def _order(setting: Setting) -> tuple[float, float]:
    """Sorts settings, so that the lowest of equals is chosen."""
    return setting.learning_rate, setting.second[1] if setting.second else 0.0


def scores_of(records: Sequence[Record]) -> dict[Setting, Score]:
    """Returns what each setting led to: of metric and loss the median over seeds."""
    groups: dict[Setting, list[Score]] = {}
    for record in records:
        groups.setdefault(record.setting, []).append(record.score)
    return {
        setting: tuple(map(statistics.median, zip(*scores, strict=True)))
        for setting, scores in groups.items()
    }
