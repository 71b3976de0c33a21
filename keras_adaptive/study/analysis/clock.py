"""The seconds of compiled runs, from runs that were timed alone.

Runs that a compiled program makes side by side have no times of their own. A few short
runs of the same setting are made by `fit`, one at a time. Their medians tell when a
compiled run would have reached a step.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from keras_adaptive.study.ledger.record import Point, Record

Whose = tuple[str, str]
"""A workload and a contender."""


class Clock(NamedTuple):
    """The times of a contender on a workload.

    Args:
        first_round: Seconds until the first evaluation, compilation included.
        first_steps: Steps until the first evaluation.
        step: Seconds of a step after that.
    """

    first_round: float
    first_steps: int
    step: float

    def at(self, point: Point) -> float:
        """Returns the seconds of training until a point of a run."""
        if not math.isnan(point.seconds):
            return point.seconds
        return self.first_round + (point.step - self.first_steps) * self.step


UNKNOWN = Clock(math.nan, 0, math.nan)


def clocks(records: Sequence[Record]) -> dict[Whose, Clock]:
    """Returns the clock of each contender that was timed, on each workload.

    A workload has none if some contender with finished runs could not be timed there:
    its seconds would be compared with nothing.
    """
    timed: dict[Whose, list[Record]] = {}
    for record in records:
        if record.phase == "time" and record.status == "finished":
            timed.setdefault((record.workload, record.contender), []).append(record)
    untimed = {
        record.workload
        for record in records
        if record.phase == "compare"
        and record.status == "finished"
        and record.params.get("engine") == "compiled"
        and (record.workload, record.contender) not in timed
    }
    return {
        whose: Clock(
            statistics.median(r.numbers["first_round_seconds"] for r in runs),
            runs[0].series("val_loss")[0][0].step,
            statistics.median(r.numbers["step_seconds"] for r in runs),
        )
        for whose, runs in timed.items()
        if whose[0] not in untimed
    }
