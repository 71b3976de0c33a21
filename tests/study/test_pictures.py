"""Pictures: what they show, and that nothing of it is cut off."""

import math

import numpy as np
import pandas as pd
import pytest

from keras_adaptive.errors import StudyError
from keras_adaptive.study.analysis.scales import DIFFERENCE, RATIO
from keras_adaptive.study.analysis.stats.profiles import (
    critical_difference,
    profile_integral,
)
from keras_adaptive.study.analysis.verdicts import Measure, Pairs, judge
from keras_adaptive.study.reporting.effects_figure import (
    OUTCOME_COLOURS,
    effects_figure,
)
from keras_adaptive.study.reporting.profile_figure import profile_figure
from keras_adaptive.study.reporting.rank_figure import critical_difference_figure
from keras_adaptive.study.reporting.sensitivity_figure import sensitivity_figure
from keras_adaptive.study.reporting.styles import line_styles

INF = math.inf
NAMES = ["keras/sgd-momentum", "adam", "keras/adam", "schedule_free_adamw", "prodigy"]
WORKLOADS = ["digits", "wine", "diabetes", "docstrings"]


def texts(figure):
    return [text.get_text() for text in visible_texts(figure)]


def visible_texts(figure):
    figure.canvas.draw()
    return [
        text
        for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))
        if text.get_visible() and text.get_text()
    ]


def assert_nothing_is_cut_off(figure):
    """Every text lies within the picture, but those of ticks outside of their axis."""
    shown = visible_texts(figure)
    ticks = {
        label
        for panel in figure.axes
        for axis in (panel.xaxis, panel.yaxis)
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        for label in (tick.label1, tick.label2)
        if not within(tick.get_loc(), axis.get_view_interval())
    }
    edges = figure.bbox.padded(1)
    for text in shown:
        if text not in ticks:
            box = text.get_window_extent()
            assert edges.x0 <= box.x0 and box.x1 <= edges.x1, text
            assert edges.y0 <= box.y0 and box.y1 <= edges.y1, text


def within(place, interval):
    return min(interval) <= place <= max(interval)


def test_line_styles_are_all_different_and_keep_the_colour_of_an_algorithm():
    styles = line_styles([*NAMES, "adagrad", "lion"])
    assert len({(s["color"], s["marker"]) for s in styles.values()}) == len(styles)
    assert styles["adam"]["color"] == styles["keras/adam"]["color"] == "#0072B2"
    assert styles["prodigy"]["color"] != styles["lion"]["color"]
    assert line_styles(["adam", "adam"]).keys() == {"adam"}


@pytest.fixture
def grid():
    """Curves with their best at 0.01 that diverge above 1."""
    return pd.DataFrame(
        {
            "workload": workload,
            "contender": name,
            "seed": seed,
            "phase": "tune",
            "status": "finished" if exponent < 1 else "diverged",
            "learning_rate": 10.0**exponent,
            "validation_metric": 0.9 - 0.1 * abs(exponent + 2) + seed / 100,
        }
        for workload in WORKLOADS
        for name in NAMES
        for exponent in range(-4, 2)
        for seed in range(3)
    )


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("direction", ["max", "min"])
def test_sensitivity_has_a_panel_a_workload_and_crosses_where_runs_diverge(
    grid, count, direction
):
    workloads = WORKLOADS[:count]
    figure = sensitivity_figure(
        grid[grid["workload"].isin(workloads)],
        dict.fromkeys(workloads, direction),
        dict.fromkeys(workloads, "accuracy"),
    )
    assert [panel.get_title() for panel in figure.axes] == workloads
    panel = figure.axes[0]
    assert (panel.get_xlabel(), panel.get_ylabel()) == (
        "learning rate",
        "validation accuracy",
    )
    lines, crosses = panel.lines[: len(NAMES)], panel.lines[len(NAMES) :]
    assert [len(line.get_xdata()) for line in lines] == [5] * len(NAMES)
    np.testing.assert_allclose(
        lines[0].get_ydata(), [0.71, 0.81, 0.91, 0.81, 0.71], atol=1e-12
    )
    assert [cross.get_xdata() for cross in crosses] == [[10.0]] * len(NAMES)
    measured = [y for line in lines for y in line.get_ydata()]
    beyond = [y for cross in crosses for y in cross.get_ydata()]
    if direction == "max":
        assert max(beyond) < min(measured)
    else:
        assert min(beyond) > max(measured)
    assert set(NAMES) <= set(texts(figure))
    assert_nothing_is_cut_off(figure)


def test_sensitivity_draws_what_never_diverged_and_what_always_did(grid):
    grid.loc[grid["contender"] == "adam", "status"] = "diverged"
    grid = grid[grid["learning_rate"] < 10]
    figure = sensitivity_figure(
        grid, dict.fromkeys(WORKLOADS, "max"), dict.fromkeys(WORKLOADS, "accuracy")
    )
    (cross,) = figure.axes[0].lines[len(NAMES) :]
    assert len(cross.get_xdata()) == 5
    assert_nothing_is_cut_off(figure)


def test_a_bad_value_does_not_hide_the_others(grid):
    grid.loc[grid["learning_rate"] == 1, "validation_metric"] = 60.0
    figure = sensitivity_figure(
        grid, dict.fromkeys(WORKLOADS, "min"), dict.fromkeys(WORKLOADS, "mse")
    )
    panel = figure.axes[0]
    assert panel.get_yscale() == "log"
    crosses = panel.lines[len(NAMES) :]
    heights = [y for cross in crosses for y in cross.get_ydata()]
    assert 60 < min(heights) <= max(heights) < panel.get_ylim()[1]
    assert_nothing_is_cut_off(figure)


@pytest.fixture
def costs():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        rng.lognormal(5, 0.4, (6, len(NAMES))), [f"w{i}" for i in range(6)], NAMES
    )
    table.iloc[0, 0] = INF
    return table


def test_profile_is_the_share_within_a_factor(costs):
    figure = profile_figure(costs, "steps to target")
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    areas = dict(zip(NAMES, profile_integral(costs), strict=True))
    in_order = sorted(NAMES, key=lambda name: -areas[name])
    assert labels == [f"{name}: {areas[name]:.2f}" for name in in_order]
    first = figure.axes[0].lines[0]
    ratios = costs[in_order[0]] / costs.min(axis=1)
    for factor, share in zip(*first.get_data(), strict=True):
        assert share == np.mean(ratios <= factor * (1 + 1e-12))
    assert_nothing_is_cut_off(figure)


@pytest.mark.parametrize("contenders", [2, 3, 5, 12])
def test_ranks_are_all_named(contenders):
    names = [f"contender_number_{number}" for number in range(contenders)]
    costs = pd.DataFrame(
        np.random.default_rng(1).random((8, contenders)), columns=names
    )
    figure = critical_difference_figure(costs)
    shown = " ".join(texts(figure))
    assert all(f"{name}  " in shown or f"  {name}" in shown for name in names)
    assert f"{critical_difference(contenders, 8):.2f} (8 workloads" in shown
    assert_nothing_is_cut_off(figure)


def test_bars_join_ranks_within_the_critical_difference():
    costs = pd.DataFrame([[1, 2, 3, 4]] * 30, columns=list("abcd"))
    width = critical_difference(4, 30)
    assert width < 1
    figure = critical_difference_figure(costs)
    assert not [line for line in figure.axes[0].lines if line.get_linewidth() == 4]
    alike = pd.DataFrame([[1, 2, 3, 4], [2, 1, 4, 3]] * 15, columns=list("abcd"))
    bars = [
        line.get_xdata()
        for line in critical_difference_figure(alike).axes[0].lines
        if line.get_linewidth() == 4
    ]
    assert [[round(end, 1) for end in bar] for bar in bars] == [[1.5, 1.5], [3.5, 3.5]]


def verdicts(scale, gains):
    measure = Measure("convergence", "steps to target", scale)
    return judge(
        measure,
        [
            Pairs(name, "sgd", workload, np.array(values, float))
            for name, rows in gains.items()
            for workload, values in zip(WORKLOADS, rows, strict=False)
        ],
    )


GAINS = {
    "schedule_free_adamw": [[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], [INF] * 7],
    "adam": [[-0.1, -0.2, -0.3, -0.4, -0.5, -0.6, -0.7], [-INF] * 7],
    "prodigy": [[-0.1, 0.2, INF], []],
}


@pytest.mark.parametrize("scale", [RATIO, DIFFERENCE], ids=["ratio", "difference"])
def test_effects_have_the_colour_of_their_outcome(scale):
    judged = verdicts(scale, GAINS)
    figure = effects_figure(judged)
    assert [panel.get_title() for panel in figure.axes] == [
        "digits",
        "wine",
        "over all workloads",
    ]
    for panel, workload in zip(figure.axes, ["digits", "wine"], strict=False):
        for row, name in enumerate(GAINS):
            (verdict,) = (
                v for v in judged if (v.contender, v.workload) == (name, workload)
            )
            drawn = [
                line
                for line in panel.lines
                if (np.array(line.get_ydata()) == row).all()
            ]
            colours = {line.get_color() for line in drawn}
            expected = {OUTCOME_COLOURS[verdict.outcome]} if verdict.pairs else set()
            assert colours == expected
    assert "no pairs" in texts(figure)
    assert_nothing_is_cut_off(figure)


def test_infinite_effects_are_arrows_on_their_side():
    panel = effects_figure(verdicts(RATIO, GAINS)).axes[1]
    arrows = {
        line.get_marker(): float(line.get_ydata()[0])
        for line in panel.lines
        if line.get_marker() in "<>" and line.get_markersize() == 10
    }
    assert arrows == {">": 0, "<": 1}


def test_effects_are_of_one_measure():
    other = judge(
        Measure("sparse", "test metric", DIFFERENCE),
        [Pairs("adam", "sgd", "digits", np.ones(3))],
    )
    with pytest.raises(StudyError, match="of one measure"):
        effects_figure([*verdicts(RATIO, GAINS), *other])
    with pytest.raises(StudyError, match="of one measure"):
        effects_figure([])
