"""The rule that makes a verdict of pairs, and its words."""

import math

import numpy as np
import pytest

from keras_adaptive.errors import StudyError
from keras_adaptive.study.analysis.scales import DIFFERENCE, RATIO, lead
from keras_adaptive.study.analysis.stats.paired_tests import holm, signed_rank
from keras_adaptive.study.analysis.verdicts import Measure, Pairs, judge
from keras_adaptive.study.reporting.tables import verdict_cell, verdicts_to_markdown

INF = math.inf
SPEED = Measure("convergence", "steps to target", RATIO)
QUALITY = Measure("generalization", "test metric", DIFFERENCE)


def pairs(gains, workload="digits", contender="adam", **options):
    return Pairs(contender, "sgd", workload, np.array(gains, float), **options)


def first(measure, *comparisons, **options):
    return judge(measure, comparisons, **options)[0]


def test_all_pairs_better_is_supported():
    gains = np.log([1.2, 1.5, 1.4, 1.3, 1.6, 1.7])
    verdict = first(SPEED, pairs(gains))
    assert verdict.outcome == "supported"
    assert verdict.effect == pytest.approx(math.sqrt(1.4 * 1.5))
    assert 1.2 <= verdict.interval[0] < verdict.effect < verdict.interval[1] <= 1.7
    assert verdict.neutral == 1
    assert verdict.pairs == 6
    assert verdict.p_value == verdict.corrected_p == verdict.smallest_p == 2 / 64
    assert verdict.why.startswith("1.45 [1.2")
    assert verdict.why.endswith("times as fast as sgd. 6 pairs, p = 0.031.")


def test_all_pairs_worse_is_refuted():
    verdict = first(QUALITY, pairs([-0.01, -0.02, -0.03, -0.04, -0.05, -0.06]))
    assert verdict.outcome == "refuted"
    assert verdict.effect == pytest.approx(-0.035)
    assert verdict.why.endswith("Worse: 6 pairs, p = 0.031.")


def test_pairs_on_both_sides_are_undecided():
    verdict = first(QUALITY, pairs([-1, 1, -2, 2, 3, -4, 4]))
    assert verdict.outcome == "undecided"
    assert "7 pairs do not decide this: p = " in verdict.why


@pytest.mark.parametrize("count", range(1, 6))
def test_too_few_pairs_say_so(count):
    verdict = first(SPEED, pairs(np.arange(1, count + 1)))
    assert verdict.outcome == "undecided"
    noun = "pair" if count == 1 else "pairs"
    assert (
        f"{count} {noun} cannot decide this: the smallest possible p is "
        f"{2 / 2**count:.3g}; 6 pairs that differ can." in verdict.why
    )


def test_correction_can_make_pairs_too_few():
    eight = [pairs(np.arange(1, 9), f"w{number}") for number in range(8)]
    verdict = first(SPEED, *eight)
    assert verdict.outcome == "undecided"
    assert verdict.p_value == pytest.approx(2 / 2**8)
    assert verdict.corrected_p == pytest.approx(8 * 2 / 2**8)
    assert (
        "8 pairs cannot decide this: the smallest possible p is 0.00781, corrected "
        "0.0625; 9 pairs that differ can." in verdict.why
    )
    assert first(SPEED, *eight[:6]).outcome == "supported"


def test_correction_is_holm_s_over_the_workloads_of_a_contender():
    rng = np.random.default_rng(0)
    mine = [pairs(rng.normal(0.5, 1, 10), workload) for workload in "abc"]
    other = [pairs(rng.normal(0.5, 1, 10), workload, "adagrad") for workload in "ab"]
    verdicts = judge(QUALITY, [other[0], *mine, other[1]])
    p_values = [signed_rank(each.gains).p_value for each in mine]
    ours = [v for v in verdicts if v.contender == "adam" and v.workload]
    assert [v.p_value for v in ours] == p_values
    assert [v.corrected_p for v in ours] == holm(p_values).tolist()


def test_ties_do_not_count_as_pairs_that_differ():
    verdict = first(QUALITY, pairs([0, 0, 0, 0, 1, 2, 3]))
    assert verdict.outcome == "undecided"
    assert verdict.pairs == 7
    assert verdict.smallest_p == 0.25
    assert "7 pairs, of which 3 differ, cannot decide this" in verdict.why


def test_all_ties_show_no_difference():
    verdict = first(QUALITY, pairs([0.0] * 9))
    assert (verdict.outcome, verdict.p_value, verdict.effect) == ("undecided", 1, 0)
    assert verdict.why.endswith("No difference in 9 pairs.")


def test_small_gains_are_refuted_where_a_margin_says_so():
    """Of equals nothing is known without a margin; with one, that they are equal."""
    gains = [0.001, -0.002, 0.001, 0.003, -0.001, 0.002, 0.0, 0.001]
    assert first(QUALITY, pairs(gains)).outcome == "undecided"
    verdict = first(QUALITY, pairs(gains, margin=0.01))
    assert verdict.outcome == "refuted"
    assert verdict.p_value == 2 / 2**8
    assert "Less than the +0.01 that would matter: 8 pairs, p = 0.0078" in verdict.why
    assert first(QUALITY, pairs([0.0] * 8, margin=0.01)).outcome == "refuted"


def test_a_gain_below_the_margin_is_never_supported():
    sure_but_small = np.linspace(0.02, 0.14, 13)
    assert first(QUALITY, pairs(sure_but_small)).outcome == "supported"
    verdict = first(QUALITY, pairs(sure_but_small, margin=0.09))
    assert verdict.outcome == "undecided"
    assert "but the +0.09 that would matter is not shown" in verdict.why


def test_median_and_ranks_must_agree():
    """Small gains in most pairs, large losses in the others."""
    gains = [*np.linspace(0.01, 0.02, 51), *np.linspace(-2, -1, 50)]
    verdict = first(QUALITY, pairs(gains))
    assert verdict.effect > 0 and verdict.p_value < 0.05
    assert verdict.outcome == "undecided"
    assert "disagree" in verdict.why


def test_infinite_gains_are_the_largest():
    """Who reaches the target where the reference does not has won that pair."""
    verdict = first(SPEED, pairs([INF] * 5 + [0.1, 0.2, 0.3]))
    assert verdict.outcome == "supported"
    assert verdict.effect == INF
    assert "∞" in verdict.why
    lost = first(SPEED, pairs([-INF] * 5 + [-0.1, -0.2, -0.3]))
    assert (lost.outcome, lost.effect) == ("refuted", 0)


def test_no_pairs_are_undecided_and_those_left_out_are_named():
    failed = tuple(f"adam seed {seed} failed" for seed in range(7))
    verdict, overall = judge(SPEED, [pairs([], left_out=failed)])
    assert (verdict.outcome, verdict.pairs, verdict.p_value) == ("undecided", 0, 1)
    assert math.isnan(verdict.effect)
    assert verdict.left_out == failed
    assert verdict.why == f"No pairs. Left out: {'; '.join(failed[:5])}; and 2 more."
    assert overall.left_out == ("digits has no pairs",)


def workloads(*gains, margin=0.0):
    return [
        pairs(each, f"workload {number}", margin=margin)
        for number, each in enumerate(gains)
    ]


def test_over_workloads_each_is_one_pair():
    six = [[0.1 * number] * 4 for number in range(1, 7)]
    *_, overall = judge(SPEED, workloads(*six, margin=0.05))
    assert overall.workload is None
    assert (overall.outcome, overall.pairs) == ("supported", 6)
    assert overall.effect == pytest.approx(math.exp(0.35))
    assert "better on 6 of 6 workloads. 6 workloads, p = 0.031." in overall.why
    *_, five = judge(SPEED, workloads(*six[:5]))
    assert five.outcome == "undecided"
    assert "5 workloads cannot decide this" in five.why


def test_differences_in_units_of_their_own_count_by_pairs_won():
    gains = [0.01, 0.01, 0.01, -0.01], [100, 200, -300, 400]
    *_, overall = judge(QUALITY, workloads(*gains, margin=0.005))
    assert overall.effect == lead(np.array(gains[0])) == lead(np.array(gains[1])) == 0.5
    assert overall.neutral == 0
    assert overall.why.startswith("+50% [+50%, +50%] of the pairs won minus lost")


def test_each_contender_has_a_verdict_over_workloads():
    comparisons = [
        pairs([1, 2, 3], workload, contender)
        for workload in ("a", "b")
        for contender in ("adam", "adagrad")
    ]
    overall = [v for v in judge(QUALITY, comparisons) if v.workload is None]
    assert [(v.contender, v.pairs) for v in overall] == [("adam", 2), ("adagrad", 2)]


def test_intervals_do_not_depend_on_other_comparisons():
    rng = np.random.default_rng(0)
    mine, other = pairs(rng.normal(size=9)), pairs(rng.normal(size=9), "wine")
    assert first(QUALITY, mine).interval == judge(QUALITY, [other, mine])[1].interval
    assert first(QUALITY, mine, seed=1) == first(QUALITY, mine, seed=1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: pairs([math.nan]),
        lambda: pairs([1], margin=-1),
        lambda: pairs([1], margin=INF),
        lambda: judge(SPEED, [pairs([1]), pairs([2])]),
    ],
)
def test_bad_pairs_are_errors(call):
    with pytest.raises(StudyError):
        call()


def test_nothing_to_compare_has_no_verdict():
    assert judge(SPEED, []) == []


def test_a_cell_shows_the_effect_in_its_unit():
    six = np.ones(6)
    assert verdict_cell(first(SPEED, pairs(np.log(1.5 * six)))) == (
        "supported, 1.5 [1.5, 1.5]×"
    )
    assert verdict_cell(first(SPEED, pairs(INF * six))) == "supported, ∞ [∞, ∞]×"
    worse = verdict_cell(first(QUALITY, pairs(-0.02 * six)))
    assert worse == "refuted, -0.02 [-0.02, -0.02]"
    assert verdict_cell(first(QUALITY, pairs([]))) == "undecided"


def test_tables_have_a_line_for_each_optimizer_and_a_column_for_each_workload():
    both = [pairs(np.ones(7)), pairs(np.ones(7), workload="wine")]
    page = verdicts_to_markdown(
        {("generalization", "test metric"): judge(QUALITY, both)}
    )
    title, _, heads, _, row = page.strip().splitlines()
    assert title == "Generalization, test metric:"
    assert heads == "| optimizer | digits | wine | all workloads |"
    assert row.startswith("| adam | supported, +1 [+1, +1] | supported")
    assert row.endswith("| undecided, +1 [+1, +1] |")
