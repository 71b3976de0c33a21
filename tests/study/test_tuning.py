import math

import pytest

from keras_adaptive.study.design.grid import beyond_the_edge, edge, half_decade, tune


def distance_to(best: int):
    """Losses that are the distance to a half decade, and the grids they saw."""
    grids = []

    def losses(rates):
        grids.append([round(2 * math.log10(rate)) for rate in rates])
        return [abs(2 * math.log10(rate) - best) for rate in rates]

    return losses, grids


@pytest.mark.parametrize(
    ("best", "grids"),
    [
        (-4, [[-6, -5, -4, -3]]),
        (-2, [[-6, -5, -4, -3], [-2, -1]]),
        (-7, [[-6, -5, -4, -3], [-8, -7]]),
        (-9, [[-6, -5, -4, -3], [-8, -7], [-10, -9]]),
    ],
)
def test_the_grid_widens_until_the_best_is_inside(best, grids):
    losses, seen = distance_to(best)
    rate, tried = tune(losses, -6, -3, widen_by=2)
    assert seen == grids
    assert rate == half_decade(best)
    assert list(tried) == sorted(tried)
    assert len(tried) == sum(map(len, grids))


@pytest.mark.parametrize("best", [-1000, 1000])
def test_it_gives_up_widening(best):
    losses, seen = distance_to(best)
    tune(losses, 0, 3, widenings=3)
    assert len(seen) == 4


def test_nan_is_the_worst():
    best, tried = tune(lambda rates: [math.nan, 7.0, math.nan], -1, 1)
    assert best == 1.0
    assert sorted(tried.values()) == [7.0, math.inf, math.inf]


def test_the_lowest_of_equals():
    assert tune(lambda rates: [1.0, 0.0, 0.0, 1.0], 0, 3)[0] == half_decade(1)


def test_a_grid_is_widened_where_its_best_is():
    scores = {0.1: (0.5, -1), 1.0: (0.5, -2), 0.01: (0.4, 0)}
    assert (edge(scores), beyond_the_edge(scores)) == (0, None)
    scores[1.0] = 0.6, -2
    assert beyond_the_edge(scores) == 3.16228
    scores[0.01] = 0.6, -2
    assert beyond_the_edge(scores) == 0.00316228


def test_half_decades_stay_on_their_grid():
    rates = [half_decade(0)]
    for _ in range(8):
        rates.append(beyond_the_edge({rates[-1]: 1, rates[-1] / 2: 0}))
    assert rates == [half_decade(exponent) for exponent in range(9)]
