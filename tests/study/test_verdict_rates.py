"""How often verdicts are right, on 1,000 studies of synthetic curves.

What the design promises: with 10 seeds, 3 workloads, a target that the reference sets
in three quarters of the budget, and a contender that is faster by 1.5 times the
standard deviation of the pairs' log-ratios, at least 80 % of the verdicts on workloads
are "supported". Without any gain, at most 5 % of the *studies* have a false verdict for
a contender and measure, however many workloads they have.

A simulation counts with noise. A procedure whose true rate is exactly the promised one
fails a test here with probability 1e-4: the bound is that quantile of the binomial
distribution of 1,000 independent studies. The draws are seeded: whoever changes the
rule draws once.
"""

import math

import numpy as np
import pytest
from scipy import stats

from keras_adaptive.study.analysis.pairing import times_less
from keras_adaptive.study.analysis.scales import DIFFERENCE, RATIO
from keras_adaptive.study.analysis.stats.medians import median
from keras_adaptive.study.analysis.stats.paired_tests import differences
from keras_adaptive.study.analysis.stats.targets import best, to_target
from keras_adaptive.study.analysis.verdicts import Measure, Pairs, judge

STUDIES = 1_000
WORKLOADS = 3
SEEDS = 10
CHANCE = 1e-4
STEPS = np.arange(20, 1_001, 20.0)
SPREAD = 0.2  # of the logarithm of a run's speed, beside what its seed decides
NOISE = 0.002  # of each measured accuracy

SPEED = Measure("convergence", "steps to target", RATIO)
QUALITY = Measure("generalization", "test metric", DIFFERENCE)


def at_most(rate):
    return stats.binom.ppf(1 - CHANCE, STUDIES, rate)


def at_least(rate):
    return stats.binom.ppf(CHANCE, STUDIES, rate)


def curves(rng, seed_effects, speed_up):
    """Accuracies that rise to 0.95, faster by a factor, as fast as their seed lets."""
    shape = seed_effects.shape
    log_speed = math.log(0.005 * speed_up) + seed_effects + rng.normal(0, SPREAD, shape)
    progress = 1 - np.exp(-np.exp(log_speed)[..., None] * STEPS)
    return 0.95 * progress + rng.normal(0, NOISE, (*shape, len(STEPS)))


def speed_gains(rng, speed_up, share=0.75, workloads=WORKLOADS, seeds=SEEDS):
    """Gains of studies × workloads × seeds, some infinite, NaN where both miss.

    The target of each workload is the median over seeds of the reference's best in a
    share of the budget.
    """
    seed_effects = rng.normal(0, 0.4, (STUDIES, workloads, seeds))
    contender = curves(rng, seed_effects, speed_up)
    reference = curves(rng, seed_effects, 1.0)
    bests = best(reference[..., : int(share * len(STEPS))], "max")
    targets = median(bests)[..., None, None]
    return times_less(
        *(to_target(STEPS, each, targets, "max") for each in (contender, reference))
    )


def verdicts_of(measure, gains, margin=0.0):
    """The verdicts of every study, those on workloads and those over them apart."""
    names = [f"workload {number}" for number in range(gains.shape[1])]
    studies = [
        judge(
            measure,
            [
                Pairs("adam", "sgd", name, row[~np.isnan(row)], margin)
                for name, row in zip(names, study, strict=True)
            ],
        )
        for study in gains
    ]
    return [study[:-1] for study in studies], [study[-1] for study in studies]


def studies_with(outcomes, studies):
    return sum(any(each.outcome in outcomes for each in study) for study in studies)


@pytest.mark.parametrize(("share", "workloads"), [(0.75, WORKLOADS), (1.0, 1)])
def test_no_gain_gives_a_false_verdict_in_at_most_5_per_cent_of_studies(
    share, workloads
):
    gains = speed_gains(np.random.default_rng(1), 1, share, workloads)
    assert np.isinf(gains).mean() > 0.1  # misses take part
    by_workload, _ = verdicts_of(SPEED, gains)
    false = studies_with({"supported", "refuted"}, by_workload)
    assert 0 < false <= at_most(0.05)


@pytest.mark.parametrize(
    ("true_gain", "outcome"), [(0.0, "supported"), (math.log(1.05), "refuted")]
)
def test_with_a_margin_each_false_verdict_has_one_side_of_the_5_per_cent(
    true_gain, outcome
):
    """No gain must not be supported, nor a gain that matters refuted."""
    gains = np.random.default_rng(2).normal(true_gain, 0.1, (STUDIES, 1, SEEDS))
    by_workload, _ = verdicts_of(SPEED, gains, margin=math.log(1.05))
    assert 0 < studies_with({outcome}, by_workload) <= at_most(0.025)


@pytest.mark.parametrize(("effect", "outcome"), [(1.5, "supported"), (-1.5, "refuted")])
def test_known_effect_is_found_in_at_least_80_per_cent_of_verdicts(effect, outcome):
    speed_up = math.exp(effect * SPREAD * math.sqrt(2))
    gains = speed_gains(np.random.default_rng(3), speed_up)
    by_workload, _ = verdicts_of(SPEED, gains, margin=math.log(1.05))
    assert sum(first.outcome == outcome for first, *_ in by_workload) >= at_least(0.8)


def test_no_gain_over_workloads_is_called_one_in_at_most_5_per_cent_of_studies():
    rng = np.random.default_rng(5)
    _, overall = verdicts_of(SPEED, speed_gains(rng, 1, workloads=6, seeds=3))
    false = sum(verdict.outcome != "undecided" for verdict in overall)
    assert 0 < false <= at_most(0.05)


def test_runs_that_diverge_alike_give_no_false_verdicts():
    rng = np.random.default_rng(6)
    shape = (2, STUDIES, WORKLOADS, SEEDS)
    metrics = np.where(rng.random(shape) < 0.2, -np.inf, rng.normal(0.9, 0.01, shape))
    by_workload, _ = verdicts_of(QUALITY, differences(*metrics))
    assert 0 < studies_with({"supported", "refuted"}, by_workload) <= at_most(0.05)


def test_five_seeds_never_decide():
    gains = np.random.default_rng(7).normal(9, 1, (20, 1, 5))
    by_workload, _ = verdicts_of(SPEED, gains)
    assert studies_with({"supported", "refuted"}, by_workload) == 0
