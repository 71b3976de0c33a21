"""The seconds of compiled runs follow from runs that were timed alone."""

import math
from dataclasses import replace

import pandas as pd
import pytest

from keras_adaptive.study import RunTable, Setting
from keras_adaptive.study.analysis.clock import Clock, clocks
from keras_adaptive.study.analysis.promises import convergence
from keras_adaptive.study.ledger.record import Point, Record

EVALUATED = {"val_loss": 1.0, "val_accuracy": 0.9, "epoch": 1.0}


def record(contender, seed, phase="compare", status="finished", engine="compiled"):
    seconds = math.nan if engine == "compiled" else 1.0
    points = [Point(step, seconds, 0, EVALUATED) for step in (10, 20)]
    numbers = {
        "test_accuracy": 0.9,
        "final_val_accuracy": 0.9,
        "best_val_accuracy": 0.9,
    }
    if engine == "fit":
        numbers |= {"first_round_seconds": 3.0 + seed, "step_seconds": 0.1}
    return Record(
        key=f"{contender} {seed} {phase}",
        workload="digits",
        contender=contender,
        setting=Setting(0.1),
        phase=phase,
        seed=seed,
        metric="accuracy",
        direction="max",
        status=status,
        reason="",
        started=0,
        ended=1,
        params={"steps": "20", "engine": engine, "data_digest": "d"},
        numbers=numbers,
        curve=tuple(points),
    )


COMPILED = [record(name, seed) for name in ("sgd", "adam") for seed in range(6)]
TIMED = [
    record(name, seed, "time", engine="fit")
    for name in ("sgd", "adam")
    for seed in (0, 2)
]


def table(records):
    tuned = pd.DataFrame(
        [
            {"workload": "digits", "contender": name, "trials": 0, "setting": "0.1"}
            for name in ("sgd", "adam")
        ]
    )
    return RunTable(records, "sgd", tuned, {"digits": 0.8})


def measures(runs):
    return {verdict.measure for verdict in convergence(runs.runs, "sgd")}


def test_medians_of_timed_runs_give_the_seconds():
    runs = table(COMPILED + TIMED)
    assert clocks(runs.records)["digits", "sgd"] == Clock(4.0, 10, 0.1)
    assert list(runs.runs["seconds_to_target"]) == [4.0] * 12
    assert list(runs.runs["step_seconds"]) == [0.1] * 12
    seconds = runs.curves.groupby("step")["seconds"].unique()
    assert seconds[10] == [4.0] and seconds[20] == pytest.approx([5.0])
    assert measures(runs) == {"steps to target", "seconds to target"}


@pytest.mark.parametrize("case", ["finished", "one diverged", "one missed the target"])
def test_without_timed_runs_only_steps_are_judged(case):
    records = list(COMPILED)
    if case == "one diverged":
        records[0] = replace(records[0], status="diverged")
    if case == "one missed the target":
        low = EVALUATED | {"val_accuracy": 0.1}
        records[0] = replace(records[0], curve=(Point(10, math.nan, 0, low),))
    assert measures(table(records)) == {"steps to target"}


def test_a_contender_that_cannot_be_timed_leaves_no_seconds_to_compare():
    failed = [
        replace(each, status="failed") for each in TIMED if each.contender == "adam"
    ]
    runs = table(COMPILED + TIMED[:2] + failed)
    assert runs.runs["seconds_to_target"].isna().all()
    assert measures(runs) == {"steps to target"}


def test_seconds_of_runs_by_fit_are_their_own():
    runs = [
        record(name, seed, engine="fit")
        for name in ("sgd", "adam")
        for seed in range(6)
    ]
    assert list(table(runs).runs["seconds_to_target"]) == [1.0] * 12
