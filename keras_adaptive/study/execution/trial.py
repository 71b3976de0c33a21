"""Trials: the runs to make."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from keras_adaptive.study.design.contender import Contender
from keras_adaptive.study.design.setting import Setting
from keras_adaptive.study.design.tuner import Pruning
from keras_adaptive.study.design.workload import Budget, Workload
from keras_adaptive.study.ledger.fingerprint import machine
from keras_adaptive.study.ledger.record import Phase, Point, Record, Status


@dataclass(frozen=True)
class Trial:
    """A run to make.

    Args:
        key: Digest of everything that decides the run.
        workload: The workload; its data are passed separately.
        budget: The length of the run.
        contender: The contender.
        setting: The hyper-parameters of the run.
        phase: The purpose of the run: `"tune"`, `"compare"` or `"time"`.
        seed: Decides initial weights and batch order, equally for every contender.
        params: Everything that was asked for, by name, as it will be recorded.
        program: Digest of what the compiled program of the run is made of; empty for
            a run by `fit`.
        pruning: Decides whether the run is stopped early; `None` if nothing does.
    """

    key: str
    workload: Workload
    budget: Budget
    contender: Contender
    setting: Setting
    phase: Phase
    seed: int
    params: dict[str, str]
    program: str = ""
    pruning: Pruning | None = None

    def watch(self) -> Callable[[int, float], bool] | None:
        """Returns what says after an evaluation whether the run stops there.

        Returns:
            A function of the step and of the validation metric.
        """
        if self.pruning is None:
            return None
        prunes = self.pruning.watch()
        sign = 1 if self.workload.metric_direction == "max" else -1
        return lambda step, metric: prunes(step, sign * metric)

    def record(
        self,
        status: Status,
        started: int,
        reason: str = "",
        numbers: dict[str, float] | None = None,
        curve: tuple[Point, ...] = (),
    ) -> Record:
        """Returns the record of the run that this trial became, on this machine.

        Args:
            status: How the run ended.
            started: Milliseconds since 1970.
            reason: Why it failed, or where it diverged or was pruned.
            numbers: The measurements that are taken once.
            curve: The repeated measurements.
        """
        return Record(
            key=self.key,
            workload=self.workload.name,
            contender=self.contender.label,
            setting=self.setting,
            phase=self.phase,
            seed=self.seed,
            metric=self.workload.metric_name,
            direction=self.workload.metric_direction,
            status=status,
            reason=reason,
            started=started,
            ended=milliseconds(),
            params=self.params | machine(),
            numbers=numbers or {},
            curve=curve,
        )


def milliseconds() -> int:
    """Returns the time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000
