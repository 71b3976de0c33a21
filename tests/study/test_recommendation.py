"""Which contender is to be taken, and the verdicts on all promises of a study."""

import numpy as np
from made_up import (
    REFERENCE,
    made_up_record,
    made_up_results,
    made_up_study,
    without_result,
)

from keras_adaptive.study.design.setting import Setting

SGD = {REFERENCE: {}}
FASTER = {"adam": {"speed": 2.0, "state": 2.0}}


def test_the_only_one_that_is_not_worse_is_taken():
    results = made_up_study(SGD | {"adam": {"accuracy": 0.95, "state": 2.0}})
    advice = results.recommendation("digits")
    assert (advice.contender, advice.setting) == ("adam", "0.01")
    assert advice.alternatives == ()
    assert advice.why.startswith("Take adam, with learning rate 0.01. Shown to be wor")
    assert f"worse than adam (0.9525) in the test accuracy: {REFERENCE} (0.9025)" in (
        advice.why
    )
    assert "at most 5 %" in advice.why


def test_among_equals_the_slower_is_out():
    advice = made_up_study(SGD | FASTER).recommendation("digits")
    assert advice.contender == "adam"
    assert f"worse than adam (1.75) in the time to the target: {REFERENCE} (3.5)" in (
        advice.why
    )


def test_where_no_difference_is_shown_the_cheapest_is_taken():
    contenders = {"adam": {"state": 2.0}, "lion": {}} | SGD
    advice = made_up_study(contenders).recommendation("digits")
    assert advice.contender == REFERENCE
    assert advice.alternatives == ("adam", "lion")
    assert (
        f"No difference could be shown between {REFERENCE}, adam and lion with 8 pairs "
        f"of runs." in advice.why
    )
    assert f"({REFERENCE} 1, adam 2 and lion 1)" in advice.why


def test_float_dust_does_not_lead():
    dust = {"adam": {"accuracy": 0.9 + 1e-14}, "lion": {}}
    results = made_up_study(SGD | dust, seeds=2)
    medians = results.judged("digits").groupby("contender")["test_metric"].median()
    assert medians["adam"] > medians[REFERENCE] == medians["lion"]
    assert results.recommendation("digits").contender == REFERENCE


def test_too_few_pairs_make_a_guess():
    contenders = SGD | {"adam": {"accuracy": 0.95}, "lion": {"accuracy": 0.8}}
    advice = made_up_study(contenders, seeds=6).recommendation("digits")
    assert advice.why.startswith("Take adam as a guess")
    assert "6 pairs of runs cannot show a difference between 3 optimizers; 7 can" in (
        advice.why
    )
    assert set(advice.alternatives) == {REFERENCE, "lion"}
    assert (
        "guess" not in made_up_study(contenders, seeds=7).recommendation("digits").why
    )


def test_less_is_better_where_the_workload_says_so():
    contenders = SGD | {"adam": {"accuracy": 0.95}}
    results = made_up_study(
        {k: v | {"direction": "min"} for k, v in contenders.items()}
    )
    assert results.recommendation("digits").contender == REFERENCE


def test_what_never_finishes_is_not_taken():
    runs = [made_up_record(REFERENCE, seed) for seed in range(8)]
    lost = [made_up_record("adam", seed, accuracy=0.99) for seed in range(8)]
    diverged = [without_result(each, "diverged") for each in lost]
    advice = made_up_results([*runs, *diverged]).recommendation("digits")
    assert advice.contender == REFERENCE
    assert "No run of adam has finished." in advice.why
    nothing = made_up_results(diverged, reference="adam").recommendation("digits")
    assert nothing.contender is None
    assert nothing.why.startswith("Take none of these")


def test_a_diverged_run_counts_against_its_contender():
    runs = [made_up_record(REFERENCE, seed) for seed in range(8)]
    lost = [
        without_result(made_up_record("adam", seed), "diverged")
        if seed
        else made_up_record("adam", seed)
        for seed in range(8)
    ]
    advice = made_up_results([*runs, *lost]).recommendation("digits")
    assert f"worse than {REFERENCE} (0.9025) in the test accuracy: adam (none)" in (
        advice.why
    )


def test_a_target_that_nobody_reaches_does_not_matter():
    results = made_up_study(SGD | FASTER)
    unreached = made_up_results(results.records, targets={"digits": 2.0})
    assert unreached.recommendation("digits").contender == REFERENCE


def test_equals_are_seldom_called_worse():
    """Four equal contenders: without a correction a fifth of the studies would err."""
    rng = np.random.default_rng(0)
    studies, wrong = 120, 0
    for _ in range(studies):
        records = [
            made_up_record(name, seed, accuracy=0.9 + rng.normal() / 100)
            for name in (REFERENCE, "a", "b", "c")
            for seed in range(10)
        ]
        results = made_up_results(records, targets={"digits": float("nan")})
        wrong += "Shown to be worse" in results.recommendation("digits").why
    assert wrong <= 12, "at most 5 % on average; more than 12 has probability 0.01"


def promises(results):
    return {(each.promise, each.measure) for each in results.verdicts()}


def test_all_promises_are_judged():
    results = made_up_study(SGD | FASTER, workloads=("digits", "wine"))
    assert {promise for promise, _ in promises(results)} == {
        "convergence",
        "generalization",
        "robustness",
    }
    for record in results.records:
        if record.phase == "compare" and record.workload == "wine":
            record.numbers["test_accuracy.rare"] = 0.5
    with_slice = made_up_results(results.records)
    assert promises(with_slice) - promises(results) == {
        ("sparse", "test metric on rare features"),
        ("sparse", "test metric on all"),
    }
    (seconds,) = (
        each
        for each in results.verdicts()
        if (each.measure, each.workload) == ("seconds to target", "digits")
    )
    assert (seconds.outcome, round(seconds.effect, 6)) == ("supported", 2)


def test_what_cannot_be_compared_has_no_verdict():
    tuned = made_up_study(SGD | FASTER).records
    judged = [each for each in tuned if each.phase == "compare"]
    assert "robustness" not in dict(promises(made_up_results(judged)))
    only_adam = [each for each in judged if each.contender == "adam"]
    assert made_up_results(only_adam).verdicts() == []


def test_one_hyper_parameter_is_looked_at_with_the_other_as_chosen():
    records = [
        made_up_record(
            name,
            seed,
            rate=rate,
            accuracy=0.9 - rate,
            phase="tune",
            setting=Setting(rate, ("epsilon", epsilon)),
        )
        for name in (REFERENCE, "adam")
        for seed in range(6)
        for rate in (0.001, 0.01, 0.1)
        for epsilon in (1e-8, 1e-6, 1e-4)
    ]
    results = made_up_results(records, learning_rate=0.01, epsilon=1e-6)
    table = results.table
    assert table.tuned_hyperparameters == ["learning_rate", "epsilon"]
    assert set(table.tuning_along("learning_rate")["epsilon"]) == {1e-6}
    assert set(table.tuning_along("epsilon")["learning_rate"]) == {0.01}
    measures = {measure for _, measure in promises(results)}
    assert {"sensitivity to learning rate", "sensitivity to epsilon"} <= measures
