"""Tells whether runs can be compiled, by tracing a step without running it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from keras_adaptive.study.execution.compiled.finding import Finding
from keras_adaptive.study.execution.compiled.packs import Compiled, Packs
from keras_adaptive.study.execution.compiled.rates import structure_of
from keras_adaptive.study.execution.compiled.replicas import State
from keras_adaptive.study.execution.trial import Trial

CONVOLUTION = "conv_general_dilated"

COPIES_OF_WEIGHTS = 4
"""Weights, gradients, and both once more while they are updated."""


def traced(packs: Packs, trials: Sequence[Trial], free_bytes: int) -> Finding:
    """Returns what is found when the program of some runs is traced.

    Args:
        packs: The programs of the workload.
        trials: Runs of one contender, with different learning rates if there are any.
        free_bytes: The memory that a run may take.
    """
    first, *others = trials
    shared = packs.program(first, _structure(first))
    # A program of its own shows whether another rate makes another step.
    made = [_trace(packs, first, shared)]
    made += [_trace(packs, trial, packs.new_program(trial)) for trial in others]
    texts = {structure: str(jaxpr) for structure, jaxpr, _ in made}
    if any(str(jaxpr) != texts[structure] for structure, jaxpr, _ in made):
        return Finding("its step is another one for another learning rate")
    structure, jaxpr, state = made[0]
    if CONVOLUTION in texts[structure] and jax.default_backend() == "cpu":
        return Finding("XLA's convolutions are slow in a loop on a CPU")
    needed = sum(array.nbytes for part in state for array in part)
    needed += COPIES_OF_WEIGHTS * sum(array.nbytes for array in state.trained)
    if needed > free_bytes:
        return Finding(
            f"a run takes {needed / 1e9:.1f} GB, and {free_bytes / 1e9:.1f} are free"
        )
    return Finding(replicas=shared.replicas)


def _structure(trial: Trial) -> str:
    return structure_of(trial.contender.make(trial.setting))


def _trace(packs: Packs, trial: Trial, made: Compiled) -> tuple[str, Any, State]:
    """Returns the structure of a run, a step and an evaluation of it, and its state."""
    program = made.program
    start = packs.start(trial)
    order, data = packs.order(trial), packs.resident.all
    rows, smaller = order.steps([trial.seed], 0, 1), order.are_smaller(0, 1)
    part = packs.resident.rows("validation")

    def step_and_evaluation(state: State, numbers: Any) -> Any:
        state, logs, rate = program.train_one(state, numbers, data, 0, rows, smaller)
        end = program.evaluate_end_one(state, numbers, data, part.batches, part.last)
        between = program.validate_one(state, numbers, data, part.batches, part.last)
        return state, logs, rate, between, end

    numbers = [np.float32(each) for each in start.numbers]
    jaxpr = jax.make_jaxpr(step_and_evaluation)(start.state, numbers)
    return _structure(trial), jaxpr, start.state
