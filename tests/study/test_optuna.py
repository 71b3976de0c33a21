"""Tuning by Optuna: what it asks for, how it goes on, and what its pruners stop."""

import importlib
import io
import math
import subprocess
import sys
from dataclasses import replace

import keras
import optuna
import pytest
from optuna.pruners import HyperbandPruner, MedianPruner, SuccessiveHalvingPruner
from optuna.samplers import PartialFixedSampler, RandomSampler, TPESampler
from rich.console import Console
from scripted import Scripted, scripted

from keras_adaptive.errors import MissingExtraError
from keras_adaptive.study import (
    Contender,
    InProcess,
    InputError,
    OptunaTuner,
    Protocol,
    Setting,
    Study,
)
from keras_adaptive.study.design.tuner import HOPELESS, Pruning
from keras_adaptive.study.execution.planning import Plan, tried_with
from keras_adaptive.study.execution.prepared_workload import PreparedWorkload
from keras_adaptive.study.execution.training import attempt

SGD, ADAM = Contender("keras/sgd", label="sgd"), Contender("adam")
BOTH = Contender("adam", extra_hyperparameter=("epsilon", (1e-8, 1e-4)), label="both")
MEDIAN = MedianPruner(n_startup_trials=2)


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


@pytest.fixture
def plan_of(workload):
    prepared = PreparedWorkload.prepare(workload, None)
    described = {}  # plans of one contender share it, which saves most of the time

    def make(tuner, contender=ADAM, **options):
        protocol = Protocol(
            **{"tuning_trials": 7, "seeds": 2, "tuner": tuner, **options}
        )
        known = described.setdefault(contender.label, {})
        return Plan(prepared, contender, protocol, _optimizers=known)

    return make


def finish(plan, records, make=scripted, backwards=False):
    """Makes the missing runs until none is left, and returns their trials."""
    made = []
    while missing := plan.progress(records).missing:
        for trial in reversed(missing) if backwards else missing:
            assert trial.key not in records
            records[trial.key] = make(trial)
            made.append(trial)
    return made


def ends_of(records):
    return {key: (each.status, each.steps) for key, each in records.items()}


def rates(trials):
    return [
        trial.setting.learning_rate
        for trial in trials
        if trial.phase == "tune" and trial.seed == 10_000
    ]


def stopped_by_its_pruner(trial):
    """As `scripted`, but a run ends where its pruner stops it."""
    record = scripted(trial)
    watch = trial.watch()
    for place, point in enumerate(record.curve[:-1], start=1):
        if watch and watch(point.step, point.metrics["val_accuracy"]):
            curve = record.curve[:place]
            return trial.record("pruned", 1_000, f"at step {point.step}", {}, curve)
    return record


def diverged_above(limit):
    def make(trial):
        if trial.setting.learning_rate > limit:
            return trial.record("diverged", 1_000, "not finite at step 1")
        return scripted(trial)

    return make


def failed(trial):
    return trial.record("failed", 1_000, "ValueError: no")


@pytest.mark.parametrize(
    ("tuner", "make"),
    [
        (OptunaTuner(), scripted),
        (OptunaTuner("qmc", round_size=4), scripted),
        (OptunaTuner(pruner=MEDIAN), stopped_by_its_pruner),
        (OptunaTuner(pruner=HyperbandPruner(4, 12, 2)), stopped_by_its_pruner),
        (OptunaTuner(pruner=SuccessiveHalvingPruner(4)), stopped_by_its_pruner),
    ],
    ids=["tpe", "qmc", "median", "hyperband", "halving"],
)
def test_an_interruption_at_any_point_changes_nothing(plan_of, tuner, make):
    options = {"tuning_trials": 5, "tuning_seeds": 2, "seeds": 1}
    records = {}
    whole = finish(plan_of(tuner, **options), records, make)
    assert len(whole) == len({trial.key for trial in whole}) == 5 * 2 + 1
    for cut in range(len(whole)):
        kept = {trial.key: records[trial.key] for trial in whole[:cut]}
        finish(plan_of(tuner, **options), kept, make, backwards=True)
        assert ends_of(kept) == ends_of(records), f"interrupted after {cut} runs"


@pytest.mark.parametrize("sampler", ["tpe", "qmc", "random", RandomSampler])
def test_a_seed_decides_the_settings(plan_of, sampler):
    def of_seed(seed):
        return rates(finish(plan_of(OptunaTuner(sampler, seed)), {}))

    assert of_seed(1) == of_seed(1) != of_seed(2)


@pytest.mark.torch
def test_the_gaussian_process_of_optuna(plan_of):
    made = finish(plan_of(OptunaTuner("gp")), {})
    assert len(set(rates(made))) == 7


def test_a_round_waits_for_all_runs_of_the_one_before(plan_of):
    plan, records = plan_of(OptunaTuner(round_size=3), tuning_seeds=2), {}
    for known in (3, 6, 7):
        progress = plan.progress(records)
        assert progress.trials == known
        *others, last = progress.missing
        records |= {trial.key: scripted(trial) for trial in others}
        assert plan.progress(records).missing == [last]
        records[last.key] = scripted(last)
    assert {trial.phase for trial in plan.progress(records).missing} == {"compare"}


def test_the_number_of_runs_is_known_from_the_beginning(plan_of):
    plan, records = plan_of(OptunaTuner(), tuning_seeds=2), {}
    total = plan.progress(records).total
    assert total == len(finish(plan, records)) == plan.progress(records).total


def test_tpe_looks_where_it_was_good(plan_of):
    made = rates(finish(plan_of(OptunaTuner(), tuning_trials=24), {}))
    off = [abs(math.log10(rate / 0.001)) for rate in made]
    assert sum(off[12:]) < 0.7 * sum(off[:12])


@pytest.fixture
def study(workload, store):
    protocol = Protocol(
        tuning_trials=5, seeds=6, tuning_seeds=6, reference="sgd", tuner=OptunaTuner()
    )
    return Study("s", [workload], [SGD, ADAM, BOTH], protocol)


def test_all_contenders_have_equal_trials_and_equal_spans(study, console):
    watched = Scripted()
    results = study.run(watched, console)
    assert set(results.tuned["trials"]) == {5}
    assert set(results.tuned["tuning_steps"]) == {5 * 6 * 12}
    for contender, middle in ((SGD, 0.01), (ADAM, 0.001), (BOTH, 0.001)):
        made = [
            each for each in watched.made if each.contender.label == contender.label
        ]
        tuning = [each for each in made if each.phase == "tune"]
        assert len({each.setting for each in tuning}) == 5
        assert len(tuning) == 30 and len(made) == 36
        for trial in tuning:
            assert abs(math.log10(trial.setting.learning_rate / middle)) <= 2
    extras = {each.setting.extra_hyperparameter for each in made}
    assert extras <= {("epsilon", 1e-8), ("epsilon", 1e-4)}
    again = Scripted()
    study.run(again, console)
    assert again.made == []


def test_the_tuner_is_recorded_and_is_part_of_the_identity(study, store, console):
    study.run(Scripted(), console)
    experiment = store[1].get_experiment_by_name("s")
    (run,) = store[1].search_runs([experiment.experiment_id], "tags.phase = 'study'")
    assert run.data.tags["tuner"].startswith(
        "Optuna: tpe, seed 0, rounds of 3, 2 decades each way ("
    )
    assert "widening_trials" not in run.data.tags
    others = [None, OptunaTuner(seed=1), OptunaTuner(pruner=MEDIAN)]
    others += [OptunaTuner(lambda seed: TPESampler(seed=seed, n_startup_trials=1))]
    others += [OptunaTuner(lambda seed: TPESampler(seed=seed, n_startup_trials=2))]
    protocols = [replace(study.protocol, tuner=each) for each in others]
    studies = [study, *(replace(study, protocol=each) for each in protocols[1:])]
    on_grid = replace(study, contenders=[SGD, ADAM], protocol=protocols[0])
    assert len({each.identity for each in [*studies, on_grid]}) == 6


def test_robustness_is_judged_on_a_grid_only(study, console):
    results = study.run(Scripted(), console)
    promises = {verdict.promise for verdict in results.verdicts()}
    assert promises == {"convergence", "generalization"}
    page = results.html()
    assert "chosen by Optuna: tpe" in page and "robustness is not judged" in page


def test_diverged_runs_are_told_as_the_worst(plan_of):
    records = {}
    tuner = OptunaTuner(round_size=4)
    made = finish(plan_of(tuner, tuning_trials=24), records, diverged_above(0.002))
    lost = [record.status == "diverged" for record in records.values()]
    assert any(lost[:4])
    assert sum(lost[4:14]) > sum(lost[14:24])
    assert records[made[-1].key].setting.learning_rate <= 0.002


@pytest.mark.parametrize("make", [diverged_above(0), failed])
@pytest.mark.parametrize("sampler", ["tpe", "qmc", "random"])
def test_no_setting_works(plan_of, make, sampler):
    records = {}
    plan = plan_of(OptunaTuner(sampler))
    assert len(finish(plan, records, make)) == 7
    assert plan.progress(records).chosen is None


def test_a_setting_that_is_asked_for_again_is_not_run_again(plan_of):
    def always(seed):
        return PartialFixedSampler({"learning_rate": 0.01}, RandomSampler(seed))

    records = {}
    plan = plan_of(OptunaTuner(always))
    assert rates(finish(plan, records)) == [0.01]
    progress = plan.progress(records)
    assert (progress.trials, progress.chosen) == (7, Setting(0.01))


def test_a_fixed_contender_is_not_tuned(plan_of):
    plan, records = plan_of(OptunaTuner(), Contender("prodigy", [1.0])), {}
    assert {trial.phase for trial in finish(plan, records)} == {"compare"}
    assert plan.progress(records).trials == 0


def test_the_range_lies_around_the_middle_of_the_contenders_own_rates(plan_of):
    own = Contender("adam", [0.02, 0.5])
    made = rates(finish(plan_of(OptunaTuner("random", decades=0.5), own), {}))
    assert len(made) == 7
    assert all(0.1 / math.sqrt(10) <= rate <= 0.316 for rate in made)


def test_a_pruned_run_is_never_chosen(plan_of):
    records = {}
    plan = plan_of(OptunaTuner(pruner=MEDIAN), tuning_seeds=3)
    finish(plan, records, stopped_by_its_pruner)
    tuning = [each for each in records.values() if each.phase == "tune"]
    pruned = [each for each in tuning if each.status == "pruned"]
    first_round = {trial.setting for trial in plan.progress({}).missing}
    assert pruned and not first_round & {each.setting for each in pruned}
    chosen = plan.progress(records).chosen
    assert chosen not in {each.setting for each in pruned}
    assert all(each.params["pruner"].startswith("MedianPruner") for each in tuning)
    judged = [each for each in records.values() if each.phase == "compare"]
    assert {each.status for each in judged} == {"finished"}
    assert not any("pruner" in each.params for each in judged)


def test_one_pruned_run_is_enough_to_leave_a_setting_out(plan_of):
    first, second, third, *_ = (
        plan_of(OptunaTuner(), tuning_seeds=3).progress({}).missing
    )
    records = [scripted(trial) for trial in (first, second)]
    assert tried_with(records).score > HOPELESS
    records.append(third.record("pruned", 1_000, "at step 4", {}, records[0].curve[:1]))
    tried = tried_with(records)
    assert (tried.score, tried.pruned) == (HOPELESS, True)
    assert [step for step, _ in tried.curve] == [4]


def test_less_is_better_for_a_metric_that_is_minimized(workload):
    prepared = PreparedWorkload.prepare(
        replace(workload, metric="loss", direction=None), None
    )
    tuner = OptunaTuner(pruner=MEDIAN, round_size=2)
    plan = Plan(prepared, ADAM, Protocol(tuning_trials=4, seeds=1, tuner=tuner))
    records = {}
    for trial in plan.progress(records).missing:
        made = scripted(trial)
        records[trial.key] = replace(made, metric="loss", direction="min")
    trial = plan.progress(records).missing[0]
    assert trial.watch()(4, 5.0)
    assert not trial.watch()(4, 0.01)


class StopsAtOnce(Pruning):
    def watch(self):
        return lambda step, value: True


def test_a_pruned_run_ends_at_its_first_evaluation(workload, make_sgd, trial_of):
    """With real training."""
    trial = replace(trial_of(workload, make_sgd(0.1)), pruning=StopsAtOnce())
    record = attempt(trial, workload.data)
    assert (record.status, record.reason) == ("pruned", "at step 4 of 12")
    assert record.steps == 4
    assert record.score == HOPELESS
    assert not [name for name in record.numbers if name.startswith(("test", "final"))]


@pytest.mark.slow
def test_a_study_with_pruning_from_training_to_the_report(workload, store, console):
    """The whole way, with real training."""
    tuner = OptunaTuner(round_size=2, pruner=MEDIAN)
    study = Study(
        "whole",
        [replace(workload, metric="loss", direction=None)],
        [SGD, ADAM],
        Protocol(tuning_trials=6, seeds=2, reference="sgd", tuner=tuner),
    )
    results = study.run(InProcess(), console, runner="compiled")
    assert "All runs are made by fit: its tuner prunes runs." in console.file.getvalue()
    tuned, tuning = results.tuned, results.table.tuning
    assert list(tuned["trials"]) == [6, 6]
    pruned = tuning[tuning["status"] == "pruned"]
    assert len(pruned) == tuned["pruned_runs"].sum() > 0
    assert pruned["validation_loss"].isna().all()
    spent = tuned["tuning_steps"].sum()
    assert 12 * (12 - len(pruned)) < spent < 12 * 12
    finished = tuning[tuning["status"] == "finished"]
    for contender, runs in finished.groupby("contender"):
        best = runs.sort_values("validation_loss").iloc[0]["learning_rate"]
        chosen = tuned.set_index("contender")["learning_rate"][contender]
        assert chosen == best
    assert "pruned" in results.html()
    watched = Scripted()
    again = study.run(watched, console, runner="compiled")
    assert watched.made == []
    assert again.tuned.equals(tuned)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampler": "tpo"}, "no sampler 'tpo'. Did you mean 'tpe'"),
        ({"sampler": RandomSampler(1)}, "a function from a seed to a new sampler"),
        ({"sampler": lambda seed: RandomSampler()}, "other learning rates with the"),
        ({"sampler": lambda seed: "tpe"}, "'tpe' is not a sampler of Optuna"),
        ({"sampler": lambda seed: 1 / 0}, "cannot choose.*division by zero"),
        ({"sampler": lambda seed: optuna.samplers.BruteForceSampler()}, "cannot"),
        ({"pruner": "median"}, "a class in optuna.pruners"),
        ({"pruner": MedianPruner}, "a class in optuna.pruners"),
        ({"round_size": 0}, "round_size is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"decades": 0}, "decades is 0"),
        ({"decades": math.inf}, "decades is inf"),
    ],
)
def test_bad_tuners(options, words):
    with pytest.raises(InputError, match=words):
        OptunaTuner(**options)


def test_bad_studies(workload):
    with pytest.raises(InputError, match="tuner is 'optuna'. Expected OptunaTuner"):
        Protocol(tuner="optuna")

    def study(contender):
        protocol = Protocol(tuner=OptunaTuner(), reference=contender.label)
        return Study("s", [workload], [contender], protocol)

    single = replace(BOTH, learning_rates=[0.1])
    with pytest.raises(InputError, match="a single learning rate, but several values"):
        study(single)

    class NoDefault(keras.optimizers.SGD):
        def __init__(self, learning_rate):
            super().__init__(learning_rate)

    with pytest.raises(InputError, match="no default learning rate"):
        study(Contender(NoDefault))


def test_without_optuna_the_message_names_the_extra(monkeypatch):
    for name in ("tuner", "pruning"):
        module = f"keras_adaptive.study.design.optuna_{name}"
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'keras-adaptive\[optuna"):
        importlib.import_module("keras_adaptive.study.design.optuna_tuner")


def test_optuna_is_imported_by_its_tuner_only():
    code = (
        "import sys; from keras_adaptive.study import *; "
        "import keras_adaptive.commands.compare; sys.exit('optuna' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
