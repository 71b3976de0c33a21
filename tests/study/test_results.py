import csv
import io
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from keras_adaptive.study.analysis.run_table import RunTable
from keras_adaptive.study.design.setting import Setting
from keras_adaptive.study.ledger.record import Point, Record
from keras_adaptive.study.reporting import tables
from keras_adaptive.study.reporting.curves import band, curves_figure
from keras_adaptive.study.reporting.tables import Spread, summarize

INF = math.inf


def record(name, seed, accuracies, step_seconds=0.002, status="finished", **options):
    curve = tuple(
        Point(
            10 * epoch,
            epoch + 0.1 * seed,
            1_000 * epoch,
            {
                "train_loss": 1 / epoch,
                "val_loss": 1 - accuracy,
                "val_accuracy": accuracy,
                "epoch": float(epoch),
            },
        )
        for epoch, accuracy in enumerate(accuracies, start=1)
    )
    numbers = {"first_round_seconds": 3.0 + seed, "step_seconds": step_seconds}
    if status == "finished":
        numbers |= {
            "best_val_accuracy": max(accuracies),
            "test_accuracy": accuracies[-1],
            "test_loss": 0.5,
            "test_accuracy.rare": accuracies[-1] / 2,
            "final_train_accuracy": 1.0,
        }
    return Record(
        **{
            "key": f"{name} {seed}",
            "workload": "w",
            "contender": name,
            "setting": Setting(0.1),
            "phase": "compare",
            "seed": seed,
            "metric": "accuracy",
            "direction": "max",
            "status": status,
            "reason": "",
            "started": 0,
            "ended": 1,
            "params": {"steps": "30"},
            "numbers": numbers,
            "curve": curve,
            **options,
        }
    )


def results_of(records, reference="keras/sgd", **targets):
    names = dict.fromkeys(each.contender for each in records)
    tuned = pd.DataFrame(
        {
            "workload": "w",
            "contender": list(names),
            "setting": "0.1",
            "learning_rate": 0.1,
            "trials": 0,
        }
    )
    return RunTable(records, reference, tuned, targets)


@pytest.fixture
def records():
    return [
        record("keras/sgd", 0, [0.5, 0.8, 0.7]),
        record("adam", 0, [0.9, 0.9, 0.9]),
        record("keras/sgd", 1, [0.5, 0.6, 0.7]),
        record("adam", 1, [0.6, 0.7, 0.8]),
        record("keras/sgd", 2, [0.5, 0.6, 0.9]),
        record("adam", 2, [0.2, 0.9, math.nan], status="diverged"),
    ]


@pytest.fixture
def results(records):
    return results_of(records)


@pytest.fixture
def reaching(records):
    """Results with a target that some runs miss."""
    return results_of(records, w=0.8)


def test_target_is_the_median_early_best_of_the_reference(results):
    assert results.targets == {"w": 0.6}


def test_evaluations_after_three_quarters_of_the_budget_set_no_target(records):
    (first, *_) = records
    budgets = {"40": 0.8, "39": 0.8, "26": 0.5, "13": math.nan}
    for steps, expected in budgets.items():
        target = results_of([replace(first, params={"steps": steps})]).targets["w"]
        np.testing.assert_equal(target, expected)


def test_tuning_and_other_contenders_set_no_target(records):
    tuning = record("keras/sgd", 9, [1.0, 1.0], phase="tune")
    assert results_of([*records, tuning]).targets == {"w": 0.6}


def test_a_diverged_reference_counts_as_the_worst_and_a_failed_one_not(records):
    diverged = record("keras/sgd", 3, [0.95, math.nan], status="diverged")
    assert results_of([*records, *[diverged] * 2]).targets == {"w": 0.6}
    assert math.isnan(results_of([*records, *[diverged] * 4]).targets["w"])
    failed = record("keras/sgd", 3, [], status="failed")
    assert results_of([*records, *[failed] * 4]).targets == {"w": 0.6}
    assert math.isnan(results_of([diverged]).targets["w"])


def test_where_runs_reach_the_target(reaching):
    runs = reaching.runs
    assert runs["steps_to_target"].tolist() == [20, 10, INF, 30, 30, INF]
    assert runs["epochs_to_target"].tolist() == [2, 1, INF, 3, 3, INF]
    assert runs["seconds_to_target"].tolist() == [2, 1, INF, 3.1, 3.2, INF]


def test_less_may_be_better():
    run = record("keras/sgd", 0, [0.5, 0.8], direction="min")
    runs = results_of([run], w=0.6).runs
    assert runs["steps_to_target"].tolist() == [10]


def test_diverged_runs_have_the_worst_values_and_failed_ones_none():
    lost = [
        record("a", 0, [0.9], status="diverged"),
        record("a", 1, [0.9], status="diverged", direction="min"),
        record("a", 2, [], status="failed"),
    ]
    runs = results_of([record("a", 3, [0.9]), *lost], reference="a").runs
    assert runs["test_metric"][:3].tolist() == [0.9, -INF, INF]
    assert runs["test_loss"][:3].tolist() == [0.5, INF, INF]
    assert runs["rare_metric"][0] == 0.45
    nothing = ["test_metric", "test_loss", "train_metric", "steps_to_target"]
    assert runs.iloc[3][nothing].isna().all()


def test_an_extra_hyper_parameter_is_a_column():
    with_epsilon = record("adam", 0, [0.9], setting=Setting(0.1, ("epsilon", 1e-8)))
    runs = results_of([record("keras/sgd", 0, [0.9]), with_epsilon]).runs
    assert runs["epsilon"].isna().tolist() == [True, False]
    assert runs["learning_rate"].tolist() == [0.1, 0.1]


def test_curves_are_tidy(results):
    curves = results.curves
    one = curves[(curves["contender"] == "adam") & (curves["seed"] == 1)]
    one = one[one["measure"] == "validation_metric"]
    assert one["step"].tolist() == [10, 20, 30]
    assert one["value"].tolist() == [0.6, 0.7, 0.8]
    assert one["seconds"].tolist() == [1.1, 2.1, 3.1]


def test_no_runs_have_the_columns_too():
    empty = results_of([record("keras/sgd", 0, [], status="failed")])
    assert {"measure", "value", "step", "phase"} <= set(empty.curves)


def test_summary_counts_misses_and_divergence_as_worst(reaching):
    sgd, adam = summarize(reaching, "w")
    assert (sgd.runs, sgd.hits, sgd.diverged) == (3, 2, 0)
    assert sgd.epochs_to_target == Spread(3, 2, INF)
    assert (adam.hits, adam.diverged) == (2, 1)
    assert adam.epochs_to_target == Spread(3, 1, INF)
    assert adam.test_metric == Spread(0.8, -INF, 0.9)
    assert adam.test_loss == Spread(0.5, 0.5, INF)
    assert sgd.first_round_seconds == Spread(4, 3, 5)


def test_half_diverged_is_not_flattered():
    runs = [record("a", 0, [0.9]), record("a", 1, [0.9], status="diverged")]
    (row,) = summarize(results_of(runs, reference="a", w=0.5), "w")
    assert tables.cells(row)[2].startswith("diverged [diverged–0.900]")


def test_cells_show_a_miss_as_a_miss(reaching):
    adam = summarize(reaching, "w")[1]
    assert tables.cells(adam) == (
        "adam, 1 diverged",
        "0.1",
        "0.800 [diverged–0.900]",
        "0.500 [0.500–diverged]",
        "3 [1–miss], 2/3 runs",
        "2.0",
        "4.0 [3.0–5.0]",
    )
    (unreached,) = summarize(results_of([record("a", 0, [0.9])], w=1.0), "w")
    assert tables.cells(unreached)[4] == "miss, 0/1 runs"


def test_failed_runs_are_told_and_not_counted():
    runs = [record("a", 0, [0.9]), record("a", 1, [], status="failed")]
    (row,) = summarize(results_of(runs, reference="a"), "w")
    assert tables.cells(row)[:3] == ("a, 1 failed", "0.1", "0.900")
    (none,) = summarize(results_of(runs[1:], reference="a"), "w")
    assert tables.cells(none)[2] == "–"


def test_no_time_per_step_is_a_dash():
    (row,) = summarize(results_of([record("a", 0, [0.9], math.nan)] * 2, w=0.5), "w")
    assert tables.cells(row)[5] == "–"


def test_markdown(results):
    rows = summarize(results, "w")
    page = tables.to_markdown(rows, "accuracy", "Title", "The rule.")
    lines = page.splitlines()
    assert lines[0] == "# Title"
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert "| test accuracy |" in page
    assert "| keras/sgd |" in page
    assert page.endswith("The rule.\n")


def test_csv(results):
    text = tables.to_csv(summarize(results, "w"))
    sgd, adam = csv.DictReader(text.splitlines())
    assert sgd["contender"] == "keras/sgd"
    assert float(adam["test_metric_median"]) == 0.8
    assert float(adam["epochs_to_target_high"]) == INF
    assert adam["diverged"] == "1"


def test_terminal_table_fits_80_columns():
    runs = [
        record("keras_adaptive/rmsprop", seed, [0.5 + seed / 100], 0.012 + seed / 1e3)
        for seed in range(3)
    ]
    rows = summarize(results_of(runs, w=0.515), "w")
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(tables.to_rich(rows, "accuracy", "T", "Median [range]."))
    text = console.export_text()
    whole = ("Median [range].", "keras_adaptive/", "rmsprop", "0.500–0.520", "1/3 runs")
    for words in whole:
        assert words in text
    assert "…" not in text


def curves_of(results, name):
    curves = results.curves
    return curves[
        (curves["contender"] == name) & (curves["measure"] == "validation_metric")
    ]


def test_band_is_median_and_range(results):
    x, (low, median, high) = band(curves_of(results, "keras/sgd"), "seconds")
    np.testing.assert_allclose(x, [1.1, 2.1, 3.1])
    np.testing.assert_allclose(low, [0.5, 0.6, 0.7])
    np.testing.assert_allclose(median, [0.5, 0.6, 0.7])
    np.testing.assert_allclose(high, [0.5, 0.8, 0.9])


def test_band_leaves_out_what_is_not_finite():
    results = results_of([record("a", 0, [0.5, math.nan])], reference="a")
    x, values = band(curves_of(results, "a"), "step")
    assert x.tolist() == [10]
    assert values.shape == (3, 1)


def test_figure_is_labelled_and_pairs_libraries_by_colour(records):
    both = [
        *records,
        record("keras/adam", 0, [0.4, 0.5, 0.6]),
        record("lion", 0, [], status="failed"),
    ]
    figure = curves_figure(results_of(both), "w", "Title")
    assert figure.axes[0].get_ylabel() == "training loss"
    assert figure.axes[2].get_ylabel() == "validation accuracy"
    assert figure.axes[2].get_xlabel() == "training steps"
    assert figure.axes[3].get_xlabel() == "training time (s)"
    lines = {line.get_label(): line for line in figure.legends[0].get_lines()}
    assert list(lines) == [
        "keras/sgd",
        "adam (1 of 3 diverged)",
        "keras/adam",
        "lion (1 of 1 failed)",
    ]
    theirs, ours = lines["keras/adam"], lines["adam (1 of 3 diverged)"]
    assert theirs.get_color() == ours.get_color() != lines["keras/sgd"].get_color()
    assert theirs.get_linestyle() != ours.get_linestyle()
