"""Packs: runs that a compiled program makes side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import keras
import numpy as np

from keras_adaptive.datasets.dataset import Dataset
from keras_adaptive.study.execution.compiled.program import Program, of_each
from keras_adaptive.study.execution.compiled.rates import structure_of
from keras_adaptive.study.execution.compiled.replicas import Models, Start, stacked
from keras_adaptive.study.execution.compiled.resident import BatchOrder, Part, Resident
from keras_adaptive.study.execution.curve import Curve, is_recorded
from keras_adaptive.study.execution.outcome import (
    SLICE,
    diverged,
    end_numbers,
    failed,
    of_part,
)
from keras_adaptive.study.execution.training import state_per_weight
from keras_adaptive.study.execution.trial import Trial, milliseconds
from keras_adaptive.study.ledger.record import Record

FEW_WEIGHTS = 20_000
"""Models of at most so many weights gain by running side by side.

The state of several larger ones does not fit the cache any more.
"""

SIDE_BY_SIDE = 8
"""The number of small models in a pack; more gain nothing on a CPU."""


def replicas_of(model: keras.Model) -> int:
    """Returns the number of runs of a model that a program makes side by side."""
    return SIDE_BY_SIDE if model.count_params() <= FEW_WEIGHTS else 1


class Compiled(NamedTuple):
    """A program with what must be known of it.

    Args:
        program: The program.
        state_per_weight: The numbers that the optimizer keeps for each weight.
        replicas: The number of runs that it makes side by side. A pack with fewer is
            filled up, so that it needs no program of its own.
    """

    program: Program
    state_per_weight: float
    replicas: int


class Packs:
    """Makes the runs of a workload, a pack at a time, and keeps its programs.

    Args:
        data: The dataset of the workload, whose features are dense.

    Attributes:
        resident: The rows of the dataset on the device.
    """

    def __init__(self, data: Dataset) -> None:
        self._data = data
        self.resident = Resident(data)
        self._models: dict[str, Models] = {}
        self._programs: dict[str, Compiled] = {}

    def attempt(self, trials: Sequence[Trial]) -> list[Record]:
        """Makes runs, and turns an exception into the records of failed runs.

        Args:
            trials: Runs of one workload and contender.
        """
        groups: dict[str, list[Trial]] = {}
        for trial in trials:
            structure = structure_of(trial.contender.make(trial.setting))
            groups.setdefault(structure, []).append(trial)
        return [
            record
            for structure, group in groups.items()
            for record in self._attempt_group(group, structure)
        ]

    def _attempt_group(self, group: Sequence[Trial], structure: str) -> list[Record]:
        records: list[Record] = []
        while len(records) < len(group):
            left, started = group[len(records) :], milliseconds()
            try:
                compiled = self.program(left[0], structure)
                pack = left[: compiled.replicas]
                records += self._train(pack, compiled, started)
            except Exception as error:
                records += [failed(trial, started, error) for trial in left]
        return records

    def program(self, trial: Trial, structure: str) -> Compiled:
        """Returns the program of a run, made for the first of those that share it."""
        key = trial.program + structure
        if key not in self._programs:
            self._programs[key] = self.new_program(trial)
        return self._programs[key]

    def new_program(self, trial: Trial) -> Compiled:
        """Returns a program that is made of a run."""
        optimizer = trial.contender.make(trial.setting)
        model = self.models(trial).template(trial, optimizer)
        return Compiled(
            Program(model, self.order(trial).rest),
            state_per_weight(model),
            replicas_of(model),
        )

    def models(self, trial: Trial) -> Models:
        """Returns the models of the workload of a run."""
        name = trial.workload.name
        if name not in self._models:
            self._models[name] = Models(self._data, self.resident)
        return self._models[name]

    def order(self, trial: Trial) -> BatchOrder:
        """Returns the order of the batches of a run."""
        return BatchOrder(self.resident.train_rows, trial.workload.batch_size)

    def start(self, trial: Trial) -> Start:
        """Returns where a run starts."""
        return self.models(trial).start(trial, trial.contender.make(trial.setting))

    def _train(
        self, trials: Sequence[Trial], compiled: Compiled, started: int
    ) -> list[Record]:
        """Trains the runs of a pack, which share a program."""
        first, *_ = trials
        workload, budget = first.workload, first.budget
        rows, metric = self.resident.train_rows, workload.metric_name
        filler = compiled.replicas - len(trials)
        starts = [self.start(trial) for trial in trials]
        state, numbers = stacked([*starts, *starts[-1:] * filler])
        seeds = list(dict.fromkeys(trial.seed for trial in trials))
        places = [seeds.index(trial.seed) for trial in trials]
        slots = np.array([*places, *places[-1:] * filler])
        # As many seeds as replicas, so that the shape is always the same.
        seeds += seeds[-1:] * (compiled.replicas - len(seeds))
        program, data = compiled.program, self.resident.all

        def evaluated(
            function: Callable[..., dict[str, Any]], part: Part
        ) -> list[dict[str, float]]:
            logs = function(state, numbers, data, part.batches, part.last)
            return of_each(logs)

        validation = self.resident.rows("validation")
        initial = evaluated(program.evaluate_start, validation)
        curves = [Curve(rows, workload.batch_size, metric) for _ in trials]
        steps = budget.steps(rows, workload.batch_size)
        every = budget.evaluate_every(rows, workload.batch_size)
        order = self.order(first)
        for before in range(0, steps, every):
            count = min(every, steps - before)
            batches = order.steps(seeds, before, count)
            smaller = order.are_smaller(before, count)
            state, logs, rates = program.train(
                state, numbers, data, slots, batches, smaller
            )
            ends = evaluated(program.validate, validation)
            logs, rates = jax.device_get((logs, rates))
            for place, curve in enumerate(curves):
                of_round = {name: value[place] for name, value in logs.items()}
                _add_round(curve, before, every, of_round, rates[place], ends[place])
            if all(curve.diverged_at is not None for curve in curves):
                break
        parts = {name: self.resident.rows(name) for name in ("train", "test")}
        for name, mask in workload.masks(self._data).items():
            parts[SLICE + name] = self.resident.rows("test", mask)
        measured = {
            name: evaluated(program.evaluate_end, part) for name, part in parts.items()
        }
        measured["final_train"] = measured.pop("train")
        records = []
        for place, (trial, curve) in enumerate(zip(trials, curves, strict=True)):
            found = of_part("initial_val", initial[place], metric)
            found["state_per_weight"] = compiled.state_per_weight
            if curve.diverged_at is not None:
                records.append(diverged(trial, started, found, curve))
                continue
            of_run = {name: logs[place] for name, logs in measured.items()}
            found |= end_numbers(workload, curve, of_run)
            points = tuple(curve.points)
            records.append(trial.record("finished", started, "", found, points))
        return records


def _add_round(
    curve: Curve,
    before: int,
    every: int,
    logs: Mapping[str, np.ndarray],
    rates: np.ndarray,
    validation: Mapping[str, float],
) -> None:
    """Adds a round to the curve of a run, as the recorder of `fit` does.

    Args:
        curve: The curve; it stays as it is if the run has diverged.
        before: The number of steps before the round.
        every: The number of steps of a whole round.
        logs: The metrics of the round so far, after each of its steps.
        rates: The learning rates after each of its steps.
        validation: The metrics on the validation data at the end of the round.
    """
    if curve.diverged_at is not None:
        return
    losses, count = logs["loss"], len(rates)
    lost = np.flatnonzero(~np.isfinite(losses))
    end = int(lost[0]) if len(lost) else count - 1
    curve.begin_round(before)
    for place in range(end + 1):
        if place == end or is_recorded(place, place, every):
            loss, rate = float(losses[place]), float(rates[place])
            curve.add_training(before + place + 1, loss, rate, math.nan)
    if len(lost):
        curve.check(before + end + 1, math.inf)
        return
    ends = {name: float(value[-1]) for name, value in logs.items()}
    ends |= {f"val_{name}": value for name, value in validation.items()}
    curve.add_evaluation(before + count, ends, math.nan)
