"""Agreement with scipy and with plain implementations, on awkward numbers too."""

import itertools
import math
import statistics as python_statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from keras_adaptive.errors import StudyError
from keras_adaptive.study.analysis.stats.medians import (
    iqm,
    iqm_interval,
    median,
    median_interval,
)
from keras_adaptive.study.analysis.stats.paired_tests import (
    differences,
    holm,
    log_ratios,
    paired_difference,
    paired_log_ratio,
    pairs_needed,
    signed_rank,
    smallest_p,
)
from keras_adaptive.study.analysis.stats.profiles import (
    average_ranks,
    critical_difference,
    growth,
    performance_profile,
    performance_ratios,
    profile_integral,
)
from keras_adaptive.study.analysis.stats.sensitivity import (
    decades_within,
    sensitivity,
    share_lost,
)
from keras_adaptive.study.analysis.stats.targets import best, target, to_target
from keras_adaptive.study.analysis.stats.values import upward

INF = math.inf

# Few different numbers, so that there are ties, constant samples and infinities.
AWKWARD = st.sampled_from([-INF, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, INF])
COSTS = st.one_of(st.sampled_from([1.0, 2.0, 3.0, INF]), st.floats(0.1, 100))


def samples(elements, least=1, most=12):
    return st.lists(elements, min_size=least, max_size=most)


def tables(elements, least_columns=1):
    """Rectangles of numbers."""
    return st.tuples(st.integers(1, 5), st.integers(least_columns, 5)).flatmap(
        lambda shape: st.lists(
            samples(elements, shape[1], shape[1]), min_size=shape[0], max_size=shape[0]
        )
    )


@given(samples(AWKWARD))
def test_median_is_python_s_but_for_opposite_infinities(values):
    expected = python_statistics.median(values)
    assert median(values) == (0.0 if math.isnan(expected) else expected)


@given(tables(AWKWARD))
def test_medians_are_along_the_last_axis(table):
    assert median(table).tolist() == [median(row) for row in table]


def share_of_medians_at_most(rank, count):
    """How likely a resample's median is at most the value of a rank, exactly."""
    return stats.binom.sf(count // 2, count, rank / count)


@pytest.mark.parametrize("count", [5, 9, 15])
def test_interval_has_the_ends_of_the_exact_bootstrap_distribution(count):
    values = np.random.default_rng(count).normal(size=count)
    values[-1] = INF
    ordered = np.sort(values).tolist()
    interval = median_interval(values, seed=1, resamples=20_000)
    noise = 4 * math.sqrt(0.025 * 0.975 / 20_000)  # four standard errors of a tail
    low = ordered.index(interval.low) + 1
    high = ordered.index(interval.high) + 1
    assert share_of_medians_at_most(low, count) >= 0.025 - noise
    assert share_of_medians_at_most(low - 1, count) <= 0.025 + noise
    assert share_of_medians_at_most(high, count) >= 0.975 - noise
    assert share_of_medians_at_most(high - 1, count) <= 0.975 + noise
    assert interval.value == np.median(values)


def test_interval_is_near_scipy_s():
    values = np.random.default_rng(0).normal(size=40)
    ours = median_interval(values, seed=0, resamples=20_000)
    theirs = stats.bootstrap(
        (values,), np.median, method="percentile", n_resamples=20_000, rng=1
    ).confidence_interval
    # Ends are medians of resamples: some neighbouring value, hence the spacing.
    spacing = np.diff(np.sort(values))[10:30].max()
    assert ours.low == pytest.approx(theirs.low, abs=spacing)
    assert ours.high == pytest.approx(theirs.high, abs=spacing)


@given(samples(AWKWARD))
@settings(max_examples=50)
def test_interval_contains_its_median_and_is_repeatable(values):
    interval = median_interval(values, seed=3, resamples=200)
    assert interval.low <= interval.value <= interval.high
    assert interval == median_interval(values, seed=3, resamples=200)


def test_interval_of_a_generator_is_that_of_its_seed():
    values = np.random.default_rng(0).normal(size=9)
    by_generator = median_interval(values, np.random.default_rng(7))
    assert by_generator == median_interval(values, 7) != median_interval(values, 8)


def test_draws_leave_the_global_random_state_alone():
    before = np.random.get_state()[1].tolist()
    median_interval([1.0, 2.0], seed=0)
    iqm_interval([[1.0, 2.0]], seed=0)
    assert np.random.get_state()[1].tolist() == before


def test_interval_of_a_constant_sample_is_a_point():
    interval = median_interval([2.0] * 7, seed=0)
    assert (interval.low, interval.value, interval.high) == (2.0, 2.0, 2.0)


@given(samples(st.tuples(AWKWARD, AWKWARD)))
def test_differences_of_equals_are_zero(pairs):
    first, second = zip(*pairs, strict=True)
    expected = [0.0 if a == b else a - b for a, b in pairs]
    assert differences(first, second).tolist() == expected


@given(samples(st.tuples(COSTS | st.just(0.0), COSTS | st.just(0.0))))
def test_log_ratios(pairs):
    def log(value):
        return math.log(value) if value else -INF

    expected = [0.0 if a == b else log(a) - log(b) for a, b in pairs]
    np.testing.assert_allclose(log_ratios(*zip(*pairs, strict=True)), expected)


def test_paired_bootstraps_resample_pairs():
    rng = np.random.default_rng(0)
    seeds = rng.normal(size=9) * 100
    change = rng.normal(size=9)
    assert paired_difference(seeds + change, seeds, 1).low == pytest.approx(
        median_interval(change, 1).low
    )
    ratio = paired_log_ratio(np.exp(change) * 50, np.full(9, 50.0), 1)
    expected = median_interval(change, 1)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )


def exact_signed_rank(values):
    """Two-sided p value by all the sums of ranks that signs can give, ties or not."""
    values = [value for value in values if value]
    ranks = [
        sum(2 * (abs(b) < abs(a)) + (abs(b) == abs(a)) for b in values) + 1
        for a in values
    ]
    ways = {0: 1}
    for rank in ranks:
        more = dict(ways)
        for total, count in ways.items():
            more[total + rank] = more.get(total + rank, 0) + count
        ways = more
    positive = sum(rank for rank, value in zip(ranks, values, strict=True) if value > 0)
    below = sum(count for total, count in ways.items() if total <= positive)
    above = sum(count for total, count in ways.items() if total >= positive)
    return min(1.0, 2 * min(below, above) / 2 ** len(values))


def test_the_exact_test_of_these_tests_is_right():
    values = [1.0, -2.0, 2.0, 4.0, -5.0, 6.0]
    ranks = stats.rankdata(np.abs(values))
    sums = [
        sum(itertools.compress(ranks, signs))
        for signs in itertools.product([0, 1], repeat=6)
    ]
    seen = sum(ranks[np.array(values) > 0])
    tails = sum(s >= seen for s in sums), sum(s <= seen for s in sums)
    assert exact_signed_rank(values) == min(1, 2 * min(tails) / 64)


@given(samples(AWKWARD, most=30))
def test_signed_rank_is_exact_with_ties_zeros_and_infinities(values):
    test = signed_rank(values)
    assert test.p_value == pytest.approx(exact_signed_rank(values))
    assert test.pairs == sum(value != 0 for value in values)
    assert test.p_value >= test.smallest_p * (1 - 1e-12)


@pytest.mark.parametrize("count", [6, 14, 30, 50])
def test_signed_rank_is_exact_without_ties(count):
    rng = np.random.default_rng(count)
    for shift in (0.0, 0.3, 0.8):
        values = rng.normal(size=count) + shift
        p_value = signed_rank(values).p_value
        assert p_value == pytest.approx(exact_signed_rank(values))
        assert p_value == pytest.approx(stats.wilcoxon(values, method="exact").pvalue)


@pytest.mark.parametrize(
    "values", [[1, 1, -2, 3, 3, 3, INF, 0], [1, 2, 2, -2, 4, -INF, INF, 5], [1.0] * 8]
)
def test_signed_rank_with_ties_is_scipy_s_permutation_test(values):
    p_value = stats.wilcoxon([value for value in values if value]).pvalue
    assert signed_rank(values).p_value == pytest.approx(p_value)


def test_signed_rank_of_many_pairs_is_near_the_normal_approximation():
    values = np.random.default_rng(0).normal(size=400) + 0.1
    approximate = stats.wilcoxon(values, method="asymptotic", correction=True).pvalue
    assert signed_rank(values).p_value == pytest.approx(approximate, rel=0.02)


@given(samples(st.just(0.0), least=0))
def test_no_difference_has_p_1(values):
    assert signed_rank(values).p_value == 1.0
    assert signed_rank(values).balance == 0.0


@given(samples(AWKWARD.filter(bool)))
def test_balance_is_that_of_the_signs_of_ranks(values):
    flipped = signed_rank([-value for value in values])
    assert signed_rank(values).balance == -flipped.balance
    assert signed_rank(np.abs(values)).balance == pytest.approx(1.0)


@pytest.mark.parametrize("pairs", range(1, 14))
def test_power_floor_is_reached_and_never_undercut(pairs):
    unanimous = signed_rank(np.arange(1, pairs + 1))
    assert unanimous.p_value == smallest_p(pairs) == min(1, 2 / 2**pairs)


@pytest.mark.parametrize(("alpha", "pairs"), [(0.05, 6), (0.01, 8), (0.05 / 24, 10)])
def test_pairs_needed(alpha, pairs):
    assert pairs_needed(alpha) == pairs
    assert smallest_p(pairs) <= alpha < smallest_p(pairs - 1)


def rejected_step_by_step(p_values, alpha):
    left = dict(enumerate(p_values))
    rejected = set()
    while left:
        smallest = min(left, key=left.get)
        if left[smallest] * len(left) > alpha:
            break
        rejected.add(smallest)
        del left[smallest]
    return rejected


@given(
    samples(st.sampled_from([0.0, 0.004, 0.01, 0.02, 0.3, 1.0]) | st.floats(0, 1)),
    st.sampled_from([0.01, 0.05, 0.2]),
)
def test_holm_rejects_what_the_steps_reject(p_values, alpha):
    corrected = holm(p_values)
    rejected = {i for i, p in enumerate(corrected) if p <= alpha}
    assert rejected == rejected_step_by_step(p_values, alpha)
    assert (corrected >= p_values).all() and (corrected <= 1).all()


@given(samples(st.floats(0, 1)), st.data())
def test_holm_rises_with_every_p_value(p_values, data):
    """So the corrected smallest p values bound the corrected p values."""
    lower = [p * data.draw(st.floats(0, 1)) for p in p_values]
    assert (holm(lower) <= holm(p_values)).all()


@given(samples(AWKWARD | st.just(math.nan)), st.sampled_from(["max", "min"]))
def test_best(curve, direction):
    numbers = [value for value in curve if not math.isnan(value)]
    worst = -INF if direction == "max" else INF
    pick = max if direction == "max" else min
    assert best(curve, direction) == pick(numbers, default=worst)


def test_target_is_a_median_and_must_exist():
    assert target([0.8, 0.9, -INF]) == 0.8
    with pytest.raises(StudyError, match="sets no target"):
        target([0.8, -INF, -INF])


@given(
    samples(AWKWARD | st.just(math.nan)),
    AWKWARD.filter(math.isfinite),
    st.sampled_from(["max", "min"]),
)
def test_to_target_is_the_first_place(curve, goal, direction):
    places = [10 * step for step in range(1, len(curve) + 1)]
    sign = 1 if direction == "max" else -1
    expected = next(
        (
            place
            for place, value in zip(places, curve, strict=True)
            if sign * value >= sign * goal
        ),
        INF,
    )
    assert to_target(places, curve, goal, direction) == expected
    both = to_target(places, [curve, [goal] * len(curve)], goal, direction)
    assert both.tolist() == [expected, 10]


@given(samples(COSTS), st.floats(0.5, 5))
def test_sensitivity_and_share_lost(losses, initial):
    capped = [min(loss, initial) for loss in losses]
    lost = [loss - min(capped) for loss in capped]
    assert sensitivity(losses, initial) == pytest.approx(sum(lost) / len(lost))
    possible = initial - min(capped)
    expected = [each / possible if possible else 1.0 for each in lost]
    np.testing.assert_allclose(share_lost(losses, initial), expected)


def test_sensitivity_of_many_grids():
    losses, initial = [[1.0, 3.0], [2.0, INF]], [2.0, 4.0]
    assert sensitivity(losses, initial).tolist() == [0.5, 1.0]
    assert share_lost(losses, initial).tolist() == [[0, 1], [0, 1]]


@given(
    samples(st.floats(0.1, 10) | st.just(1.0), least=2, most=8),
    st.sampled_from(["max", "min"]),
    st.sampled_from([1.0, 5.0, 50.0]),
)
def test_decades_within_is_the_area_of_the_interpolated_curve(
    values, direction, percent
):
    exponents = np.cumsum(np.arange(1, len(values) + 1) / 4)
    fine = np.linspace(exponents[0], exponents[-1], 20_001)
    curve = np.interp(fine, exponents, values)
    if direction == "min":
        inside = curve <= min(values) * (1 + percent / 100)
    else:
        inside = curve >= max(values) * (1 - percent / 100)
    expected = inside.mean() * (exponents[-1] - exponents[0])
    decades = decades_within(10**exponents, values, percent, direction)
    # Each of the few segments has an end, which the fine grid misses by up to a step.
    step = fine[1] - fine[0]
    assert decades == pytest.approx(expected, abs=2 * len(values) * step)


def test_decades_next_to_divergence_and_without_any_value():
    rates = [0.01, 0.1, 1.0]
    assert decades_within(rates, [1.0, 1.0, INF], 5, "min") == pytest.approx(1)
    assert decades_within(rates, [INF, 1.0, INF], 5, "min") == 0
    assert decades_within(rates, [-INF] * 3, 5, "max") == 0
    table = decades_within(rates, [[0.9, 0.9, 0.9], [-INF] * 3], 5, "max")
    np.testing.assert_allclose(table, [2, 0])


@given(st.floats(-1, 2), st.floats(0.1, 10))
def test_growth_of_a_power_law(exponent, factor):
    sizes = np.array([10.0, 100.0, 1e4, 1e6])
    assert growth(sizes, factor * sizes**exponent) == pytest.approx(exponent, abs=1e-9)


@given(samples(st.floats(0.1, 100), least=3, most=6))
def test_growth_is_the_median_of_slopes(costs):
    sizes = 2.0 ** np.arange(len(costs))
    slopes = [
        math.log(costs[j] / costs[i]) / math.log(sizes[j] / sizes[i])
        for i, j in itertools.combinations(range(len(costs)), 2)
    ]
    assert growth(sizes, costs) == pytest.approx(python_statistics.median(slopes))
    assert growth(sizes, [*costs[:-1], INF]) == INF


@given(tables(COSTS))
def test_performance_ratios(costs):
    expected = [
        [value / min(row) if math.isfinite(value) else INF for value in row]
        for row in costs
    ]
    np.testing.assert_allclose(performance_ratios(costs), expected)


def test_float_dust_is_no_ratio():
    costs = [[0.1 + 0.2, 0.3, INF], [INF, INF, INF]]
    assert performance_ratios(costs).tolist() == [[1, 1, INF], [INF, INF, INF]]
    assert performance_profile(costs, [1]).tolist() == [[0.5, 0.5, 0.0]]


@given(tables(COSTS))
def test_profile_counts_workloads(costs):
    factors = [1, 1.5, 2, 4]
    ratios = performance_ratios(costs)
    expected = [
        [np.mean([ratio <= factor for ratio in column]) for column in ratios.T]
        for factor in factors
    ]
    np.testing.assert_allclose(performance_profile(costs, factors), expected)


@given(tables(COSTS))
@settings(max_examples=50)
def test_integral_is_the_area_under_the_profile(costs):
    edges = np.linspace(1, 4, 3_001)
    middles = (edges[1:] + edges[:-1]) / 2
    area = performance_profile(costs, middles).mean(axis=0)
    np.testing.assert_allclose(profile_integral(costs), area, atol=1e-3)


@given(samples(st.floats(-5, 5), most=20))
def test_iqm_is_the_mean_of_the_middle_half(values):
    cut = len(values) // 4
    middle = sorted(values)[cut : len(values) - cut]
    assert iqm(values) == pytest.approx(sum(middle) / len(middle), abs=1e-12)


def test_iqm_stands_a_quarter_of_infinities_at_either_end():
    assert iqm([[1, 2], [3, 4], [-INF, INF]]) == 2.5


def test_stratified_bootstrap_stays_within_workloads():
    constant = [[0.1] * 4, [0.5] * 4, [0.9] * 4]
    interval = iqm_interval(constant, seed=0)
    assert interval.low == interval.value == interval.high == pytest.approx(0.5)


def test_stratified_bootstrap_is_the_plain_one_for_a_single_workload():
    values = np.random.default_rng(0).normal(size=24)
    ours = iqm_interval([values], seed=0, resamples=10_000)
    theirs = stats.bootstrap(
        (values,),
        lambda sample, axis: stats.trim_mean(sample, 0.25, axis=axis),
        method="percentile",
        n_resamples=10_000,
        rng=1,
    )
    # The standard error of a 2.5 % percentile of 10,000 is below 5 % of the width.
    slack = 0.15 * theirs.standard_error
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=slack)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=slack)


@given(tables(COSTS))
def test_average_ranks(costs):
    ranks = [
        [sum(b < a for b in row) + (sum(b == a for b in row) + 1) / 2 for a in row]
        for row in costs
    ]
    np.testing.assert_allclose(average_ranks(costs), np.mean(ranks, axis=0))


@pytest.mark.parametrize(
    ("alpha", "contenders", "quantile"),
    [
        *((0.05, 2, 1.960), (0.05, 3, 2.343), (0.05, 6, 2.850), (0.05, 10, 3.164)),
        *((0.10, 2, 1.645), (0.10, 5, 2.459), (0.10, 10, 2.920)),
    ],
)
def test_critical_difference_has_the_published_quantiles(alpha, contenders, quantile):
    """Those of table 5 of Demšar 2006, given there with three decimals."""
    scale = math.sqrt(contenders * (contenders + 1) / (6 * 12))
    assert critical_difference(contenders, 12, alpha) / scale == pytest.approx(
        quantile, abs=1e-3
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda: median([1.0, math.nan]),
        lambda: median([]),
        lambda: median_interval([], 0),
        lambda: signed_rank([math.nan]),
        lambda: differences([1, 2], [1]),
        lambda: log_ratios([-1], [1]),
        lambda: upward([1], "up"),
        lambda: decades_within([1, 1], [1, 1], 5, "min"),
        lambda: decades_within([0, 1], [1, 1], 5, "min"),
        lambda: performance_ratios([[0, 1]]),
        lambda: growth([10, 10], [1, 1]),
        lambda: growth([10, 20], [0, 1]),
    ],
)
def test_bad_numbers_are_errors(call):
    with pytest.raises(StudyError):
        call()
