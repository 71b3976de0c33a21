"""A study as a whole: what is run, what is kept, and how it goes on."""

import io
import json
import math
import os
from dataclasses import replace

import keras
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from rich.console import Console
from scripted import Scripted, scripted

from keras_adaptive.datasets.dataset import Split
from keras_adaptive.study import (
    Contender,
    Epochs,
    InProcess,
    Protocol,
    Study,
    StudyError,
)
from keras_adaptive.study.analysis import promises
from keras_adaptive.study.ledger.mlflow_ledger import Ledger

SGD, ADAM = Contender("keras/sgd", label="sgd"), Contender("adam")


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


@pytest.fixture
def study(workload, store):
    protocol = Protocol(tuning_trials=3, seeds=2, reference="sgd")
    return Study("s", [workload], [SGD, ADAM], protocol)


def runs_of(client, name):
    found = client.get_experiment_by_name(name)
    runs = client.search_runs([found.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return parents, [run for run in runs if run not in parents]


def changed(study, **options):
    return replace(study, protocol=replace(study.protocol, **options))


def equal(one, other):
    """Whether results say the same, but for the time that things took."""
    clocks = ["seconds_to_target", "first_round_seconds", "step_seconds"]
    order = ["workload", "contender", "phase", "learning_rate", "seed"]
    for table, times, more in (("runs", clocks, []), ("curves", ["seconds"], ["step"])):
        left, right = (
            getattr(each, table).drop(columns=times).sort_values(order + more)
            for each in (one, other)
        )
        pd.testing.assert_frame_equal(
            left.reset_index(drop=True), right.reset_index(drop=True)
        )
    pd.testing.assert_frame_equal(one.tuned, other.tuned)
    return one.targets == other.targets


@pytest.mark.slow
def test_a_study_from_training_to_tables(workload, store, console):
    """The whole way, with real training."""
    study = Study(
        "whole",
        [replace(workload, slices=lambda data: {"rare": data.test.y == 1})],
        [ADAM],
        Protocol(tuning_trials=2, widening_trials=1, seeds=2),
    )
    results = study.run(InProcess(), console)
    runs = results.runs
    assert set(runs["status"]) == {"finished"}
    assert list(results.tuned["contender"]) == ["keras/sgd-momentum", "adam"]
    assert set(results.tuned["trials"]) <= {2, 3}
    chosen = dict(
        zip(results.tuned["contender"], results.tuned["learning_rate"], strict=True)
    )
    for contender, of_contender in runs.groupby("contender"):
        tuning = of_contender[of_contender["phase"] == "tune"]
        judging = of_contender[of_contender["phase"] == "compare"]
        assert set(tuning["seed"]) == {10_000}
        assert list(judging["seed"]) == [0, 1]
        assert set(judging["learning_rate"]) == {chosen[contender]}
        best = tuning.sort_values(["validation_metric"]).iloc[-1]
        at_chosen = tuning[tuning["learning_rate"] == chosen[contender]]
        assert at_chosen["validation_metric"].item() == best["validation_metric"]
    judging = runs[runs["phase"] == "compare"]
    reference = judging[judging["contender"] == "keras/sgd-momentum"]
    curves = results.curves[results.curves["key"].isin(reference["key"])]
    early = curves[(curves["measure"] == "validation_metric") & (curves["step"] <= 9)]
    assert results.targets == {"tiny": early.groupby("seed")["value"].max().median()}
    paired = runs.groupby(["phase", "seed"])["initial_loss"].nunique()
    assert (paired == 1).all()
    assert judging["rare_metric"].between(0, 1).all()
    measures = set(results.curves["measure"])
    assert measures >= {"train_loss", "validation_metric", "learning_rate"}

    watched = Scripted()
    again = study.run(watched, console)
    assert watched.made == []
    pd.testing.assert_frame_equal(again.runs, runs)
    pd.testing.assert_frame_equal(again.curves, results.curves)


def test_equal_tuning_and_widening_for_all(study, console):
    watched = Scripted()
    results = study.run(watched, console)
    tuned = results.tuned.set_index("contender")
    # SGD's grid 0.00316 to 0.0316 misses its best rate, 0.1, Adam's has it inside.
    assert tuned["learning_rate"].to_dict() == {"sgd": 0.1, "adam": 0.001}
    assert tuned["trials"].to_dict() == {"sgd": 5, "adam": 3}
    ran = watched.ran()
    assert [rate for who, rate, seed in ran if (who, seed) == ("sgd", 10_000)] == [
        0.00316228,
        0.01,
        0.0316228,
        0.1,
        0.316228,
    ]
    assert len(ran) == len(set(ran)) == 5 + 3 + 2 * 2


def test_widening_is_capped_for_all(study, console, monkeypatch):
    monkeypatch.setattr("scripted.BEST_RATE", {"sgd": 1e3, "adam": 1e-9})
    results = changed(study, widening_trials=2).run(Scripted(), console)
    assert list(results.tuned["trials"]) == [5, 5]
    assert list(results.tuned["learning_rate"]) == [0.316228, 0.0000316228]


def test_an_extra_hyper_parameter_widens_with_all_its_values(study, console):
    contender = Contender(
        "adam", extra_hyperparameter=("epsilon", (1e-8, 1e-4)), label="both"
    )
    protocol = Protocol(tuning_trials=4, widening_trials=5, seeds=1, reference="both")
    watched = Scripted()
    results = replace(study, contenders=[contender], protocol=protocol).run(
        watched, console
    )
    # Two rates, then 0.01 and 0.0316, the best and one beyond it, each with two values.
    assert results.tuned["trials"].item() == 8
    assert results.tuned["setting"].item() == "0.01, epsilon 1e-08"
    assert set(results.runs["epsilon"]) == {1e-8, 1e-4}


def test_only_what_is_new_is_run(study, console):
    first = Scripted()
    study.run(first, console)

    more_seeds = Scripted()
    changed(study, seeds=3).run(more_seeds, console)
    assert more_seeds.ran() == [("adam", 0.001, 2), ("sgd", 0.1, 2)]

    more_contenders = Scripted()
    replace(study, contenders=[*study.contenders, "lion"]).run(more_contenders, console)
    assert {who for who, _, _ in more_contenders.ran()} == {"lion"}

    more_rates = Scripted()
    rates = [0.000316228, 0.001, 0.00316228, 0.01]
    wider = [Contender("adam", rates), Contender("keras/sgd", rates, label="sgd")]
    replace(
        study, contenders=wider, protocol=replace(study.protocol, tuning_trials=4)
    ).run(more_rates, console)
    tuning = [run[:2] for run in more_rates.ran() if run[2] == 10_000]
    assert tuning == [("adam", 0.01), ("sgd", 0.000316228), ("sgd", 0.001)]


def other_data(data):
    y = data.test.y.copy()
    y[0] = 1 - y[0]
    return replace(data, test=Split(data.test.x, y))


@pytest.mark.parametrize(
    "change",
    [
        lambda w: {"data": other_data(w.data)},
        lambda w: {"batch_size": 8},
        lambda w: {"budget": Epochs(2)},
        lambda w: {"loss": keras.losses.SparseCategoricalCrossentropy()},
        lambda w: {"metric": "loss"},
        lambda w: {"build": lambda seed: deeper(w.build(seed), seed)},
        lambda w: {"name": "other"},
    ],
    ids=["data", "batch_size", "budget", "loss", "metric", "model", "name"],
)
def test_a_changed_workload_reuses_nothing(study, workload, console, change):
    fixed = [Contender("keras/sgd", [0.1], label="sgd")]
    study = replace(study, contenders=fixed)
    study.run(Scripted(), console)
    again = Scripted(make_any)
    replace(study, workloads=[replace(workload, **change(workload))]).run(
        again, console
    )
    assert len(again.made) == 2
    said = "The data of tiny have changed: 2 runs" in console.file.getvalue()
    assert said == ("data" in change(workload))


def deeper(model, seed):
    """The model with a bias less: other weights, the same layers."""
    layer = keras.layers.Dense(
        2,
        use_bias=False,
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
    )
    return keras.Model(model.input, layer(model.input))


def make_any(trial):
    record = scripted(trial)
    name = trial.workload.metric_name
    numbers = {
        key.replace("accuracy", name): value for key, value in record.numbers.items()
    }
    return replace(record, numbers=numbers)


def test_names_that_keras_makes_up_change_no_key(study, workload, console):
    study.run(Scripted(), console)
    for _ in range(3):
        keras.layers.Dense(1)
    again = Scripted()
    study.run(again, console)
    assert again.made == []


def test_interrupted_and_resumed(study, store, console):
    whole = replace(study, name="whole").run(Scripted(), console)
    made = []
    for interrupt_after in (0, 1, 4, 3):
        part = Scripted(interrupt_after=interrupt_after)
        with pytest.raises(KeyboardInterrupt):
            study.run(part, console)
        made += part.ran()
        parents, _ = runs_of(store[1], "s")
        assert [parent.info.status for parent in parents] == ["KILLED"]
    assert "Interrupted: 8 of 12 runs are kept" in console.file.getvalue()
    rest = Scripted()
    resumed = study.run(rest, console)
    made += rest.ran()
    assert len(made) == len(set(made)) == 12
    assert equal(whole, resumed)
    (parent,), children = runs_of(store[1], "s")
    assert parent.info.status == "FINISHED"
    assert len({child.data.tags["key"] for child in children}) == len(children) == 12


def test_an_interrupt_while_a_run_is_written(study, store, console, monkeypatch):
    terminate, left = MlflowClient.set_terminated, [3]

    def interrupted(client, *args, **kwargs):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        terminate(client, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "set_terminated", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study.run(Scripted(), console)
    (parent,), children = runs_of(store[1], "s")
    assert parent.info.status == "KILLED"
    assert [child.info.status for child in children] == ["FINISHED"] * 2
    rest = Scripted()
    study.run(rest, console)
    assert len(rest.made) == 10
    assert len(runs_of(store[1], "s")[1]) == 12


def test_a_half_written_run_is_cleaned_and_made_again(study, store, console):
    study.run(Scripted(), console)
    _, children = runs_of(store[1], "s")
    for child in children[:2]:
        store[1].update_run(child.info.run_id, status="RUNNING")
    again = Scripted()
    study.run(again, console)
    assert {trial.key for trial in again.made} == {
        child.data.tags["key"] for child in children[:2]
    }
    _, children = runs_of(store[1], "s")
    assert {child.info.status for child in children} == {"FINISHED"}
    assert len({child.data.tags["key"] for child in children}) == len(children) == 12


def test_a_failed_run_is_kept_with_its_reason_and_the_study_goes_on(
    study, store, console
):
    def make(trial):
        if trial.contender.label == "adam" and trial.seed == 1:
            return trial.record("failed", 1_000, "MemoryError: too large (here:1)")
        return scripted(trial)

    results = study.run(Scripted(make), console)
    (failed,) = results.runs[results.runs["status"] == "failed"].to_dict("records")
    assert (failed["contender"], failed["seed"]) == ("adam", 1)
    assert failed["reason"] == "MemoryError: too large (here:1)"
    assert math.isnan(failed["test_metric"])
    assert math.isnan(failed["steps_to_target"])
    assert "1 of 12 runs failed" in console.file.getvalue()
    _, children = runs_of(store[1], "s")
    (child,) = [run for run in children if run.info.status == "FAILED"]
    assert child.data.tags["reason"] == failed["reason"]

    again = Scripted()
    study.run(again, console)
    assert again.made == []
    study.run(again, console, retry_failed=True)
    assert again.ran() == [("adam", 0.001, 1)]
    assert set(study.run(again, console).runs["status"]) == {"finished"}


def test_a_diverged_run_loses(workload, store, console):
    """With real training."""
    contenders = [
        Contender("keras/sgd", [1.0], label="sgd"),
        Contender("keras/sgd", [1e38], label="wild"),
    ]
    study = Study("d", [workload], contenders, Protocol(seeds=1, reference="sgd"))
    results = study.run(console=console)
    tame, wild = results.runs.to_dict("records")
    assert (tame["status"], wild["status"]) == ("finished", "diverged")
    assert wild["test_metric"] == -math.inf
    assert wild["test_loss"] == wild["steps_to_target"] == math.inf
    again = study.run(console=console)
    pd.testing.assert_frame_equal(again.runs, results.runs)
    pd.testing.assert_frame_equal(again.curves, results.curves)


def test_a_contender_that_never_works_is_not_judged(study, console):
    def make(trial):
        if trial.contender.label == "adam":
            return trial.record("diverged", 1_000, "not finite at step 1")
        return scripted(trial)

    results = study.run(Scripted(make), console)
    chosen = results.tuned.set_index("contender")["setting"].to_dict()
    assert chosen == {"sgd": "0.1", "adam": "none worked"}
    runs = results.runs
    assert set(runs[runs["contender"] == "adam"]["phase"]) == {"tune"}


def test_no_target_without_a_reference_that_works(study, console):
    def make(trial):
        if trial.contender.label == "sgd":
            return trial.record("diverged", 1_000, "not finite at step 1")
        return scripted(trial)

    results = study.run(Scripted(make), console)
    assert math.isnan(results.targets["tiny"])
    assert results.runs["steps_to_target"].isna().all()


def test_a_target_of_the_protocol(study, console):
    results = changed(study, target=0.61).run(Scripted(), console)
    assert results.targets == {"tiny": 0.61}
    # At its end, after 12 steps, a scripted run is above 0.8; after 8, at most 0.6.
    assert set(results.runs["steps_to_target"]) == {12.0}
    unreached = changed(study, target=0.95).run(Scripted(), console)
    assert set(unreached.runs["steps_to_target"]) == {math.inf}


def test_what_mlflow_does_not_take_is_spooled_and_delivered(
    study, store, console, monkeypatch
):
    whole = replace(study, name="whole").run(Scripted(), console)
    write, left = Ledger._write, [5]

    def unreachable(ledger, record):
        left[0] -= 1
        if left[0] < 0:
            raise MlflowException("the server is down")
        write(ledger, record)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "_write", unreachable)
        results = study.run(Scripted(), console)
    assert equal(whole, results)
    files = sorted((store[0] / "mlflow-spool" / "s").iterdir())
    assert len(files) == 7
    keys = {json.loads(file.read_text())["key"] for file in files}
    assert keys == {file.stem for file in files}
    assert "7 runs wait in mlflow-spool" in console.file.getvalue()
    assert len(runs_of(store[1], "s")[1]) == 5

    again = Scripted()
    resumed = study.run(again, console)
    assert again.made == []
    pd.testing.assert_frame_equal(resumed.runs, results.runs)
    pd.testing.assert_frame_equal(resumed.curves, results.curves)
    assert list((store[0] / "mlflow-spool" / "s").iterdir()) == []
    assert len(runs_of(store[1], "s")[1]) == 12


def test_a_run_that_was_delivered_after_all_is_not_written_twice(
    study, store, console, monkeypatch
):
    write = Ledger._write

    def answer_lost(ledger, record):
        write(ledger, record)
        del ledger._run_ids[record.key]
        raise ConnectionError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "_write", answer_lost)
        study.run(Scripted(), console)
    study.run(Scripted(), console)
    _, children = runs_of(store[1], "s")
    assert len({child.data.tags["key"] for child in children}) == len(children) == 12


def test_a_study_is_run_by_one_process_at_a_time(study, store, console):
    study.run(Scripted(), console)
    ledger = Ledger("s", store[0])
    with (
        ledger.open("another title", {}, ["tiny"]),
        pytest.raises(StudyError, match=f"being run already, by process {os.getpid()}"),
    ):
        study.run(Scripted(), console)
    study.run(Scripted(), console)


def test_a_study_that_breaks_off_says_why(study, store, console):
    def make(trial):
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        study.run(Scripted(make), console)
    (parent,), children = runs_of(store[1], "s")
    assert parent.info.status == "FAILED"
    assert parent.data.tags["failure"] == "OSError: no space left"
    assert children == []


def test_pairs_run_side_by_side(study, console):
    watched = Scripted()
    changed(study, widening_trials=0, tuning_seeds=2).run(watched, console)
    seeds = [trial.seed for trial in watched.made if trial.phase == "tune"]
    assert seeds == [10_000] * 6 + [10_001] * 6


def test_a_study_may_have_its_own_judge(study, console):
    seen = []

    def judge(table):
        seen.append(table)
        return promises.convergence(table.runs, table.reference)

    results = replace(study, judge=judge).run(Scripted(), console)
    assert seen == []
    assert {each.promise for each in results.verdicts()} == {"convergence"}
    assert seen == [results.table]


def test_a_metric_with_a_name_that_mlflow_refuses(workload, store, console):
    def accuracy():
        return keras.metrics.SparseCategoricalAccuracy(name="top-1 @ (%)")

    named = replace(workload, metric=accuracy, direction="max")
    protocol = Protocol(tuning_trials=3, seeds=2, reference="sgd")
    study = Study("named", [named], [SGD], protocol)
    results = study.run(console=console)
    assert results.metrics == {"tiny": "top-1 @ (%)"}
    assert not (store[0] / "mlflow-spool").exists()
    again = Scripted()
    assert equal(study.run(again, console), results)
    assert again.made == []
