import csv
import io
import math

import numpy as np
import pytest
from rich.console import Console

from keras_adaptive.study import tables
from keras_adaptive.study.plots import band, curves_figure, save_curves
from keras_adaptive.study.results import (
    Spread,
    epochs_to_target,
    summarize,
    target_accuracy,
)
from keras_adaptive.study.training import Contender, Point, RunResult

INF = math.inf


def result(name, seed, accuracies, step_seconds=0.002, diverged_at=None):
    library, algorithm = name.split("/")
    curve = tuple(
        Point(
            10 * epoch,
            epoch + 0.1 * seed,
            1_000 * epoch,
            {"train_loss": 1 / epoch, "val_accuracy": accuracy},
        )
        for epoch, accuracy in enumerate(accuracies, start=1)
    )
    lost = diverged_at is not None
    return RunResult(
        contender=Contender(algorithm, library, None, 0.1),
        seed=seed,
        config={},
        curve=curve,
        first_epoch_seconds=3.0 + seed,
        step_seconds=step_seconds,
        diverged_at=diverged_at,
        test_loss=INF if lost else 0.5,
        test_accuracy=-INF if lost else accuracies[-1],
    )


@pytest.fixture
def results():
    return [
        result("keras/sgd", 0, [0.5, 0.8, 0.7]),
        result("ours/adam", 0, [0.9, 0.9, 0.9]),
        result("keras/sgd", 1, [0.5, 0.6, 0.7]),
        result("ours/adam", 1, [0.6, 0.7, 0.8]),
        result("keras/sgd", 2, [0.5, 0.6, 0.9]),
        result("ours/adam", 2, [0.2, 0.2, 0.2], diverged_at=7),
    ]


def test_target_is_the_median_best_of_the_reference(results):
    assert target_accuracy(results, "keras/sgd") == 0.8


def test_epochs_to_target():
    run = result("a/b", 0, [0.5, 0.8, 0.7])
    assert epochs_to_target(run, 0.8) == 2
    assert epochs_to_target(run, 0.81) == INF


def test_summary_counts_misses_and_divergence_as_worst(results):
    sgd, adam = summarize(results, target=0.8)
    assert (sgd.runs, sgd.hits, sgd.diverged) == (3, 2, 0)
    assert sgd.epochs_to_target == Spread(3, 2, INF)
    assert (adam.hits, adam.diverged) == (2, 1)
    assert adam.epochs_to_target == Spread(3, 1, INF)
    assert adam.test_accuracy == Spread(0.8, -INF, 0.9)
    assert adam.test_loss == Spread(0.5, 0.5, INF)
    assert sgd.first_epoch_seconds == Spread(4, 3, 5)


def test_half_diverged_is_not_flattered():
    runs = [result("a/b", 0, [0.9]), result("a/b", 1, [0.9], diverged_at=1)]
    (row,) = summarize(runs, target=0.5)
    assert tables.cells(row)[2].startswith("diverged [diverged–0.900]")


def test_cells_show_a_miss_as_a_miss(results):
    adam = summarize(results, target=0.8)[1]
    assert tables.cells(adam) == (
        "ours/adam, 1 diverged",
        "0.1",
        "0.800 [diverged–0.900]",
        "0.500 [0.500–diverged]",
        "3 [1–miss], 2/3 runs",
        "2.0",
        "4.0 [3.0–5.0]",
    )
    unreached = summarize(results[:1], target=1.0)[0]
    assert tables.cells(unreached)[4] == "miss, 0/1 runs"


def test_no_time_per_step_is_a_dash():
    (row,) = summarize([result("a/b", 0, [0.9], math.nan)] * 2, target=0.5)
    assert tables.cells(row)[5] == "–"


def test_markdown(results):
    page = tables.to_markdown(summarize(results, 0.8), "Title", "The rule.")
    lines = page.splitlines()
    assert lines[0] == "# Title"
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert "| keras/sgd |" in page
    assert page.endswith("The rule.\n")


def test_csv(results):
    text = tables.to_csv(summarize(results, 0.8))
    sgd, adam = csv.DictReader(text.splitlines())
    assert sgd["library"] == "keras"
    assert float(adam["test_accuracy_median"]) == 0.8
    assert float(adam["epochs_to_target_high"]) == INF
    assert adam["diverged"] == "1"


def test_terminal_table_fits_80_columns():
    runs = [
        result("keras_adaptive/rmsprop", seed, [0.5 + seed / 100], 0.012 + seed / 1e3)
        for seed in range(3)
    ]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(tables.to_rich(summarize(runs, 0.515), "T", "Median [range]."))
    text = console.export_text()
    whole = ("Median [range].", "keras_adaptive/", "rmsprop", "0.500–0.520", "1/3 runs")
    for words in whole:
        assert words in text
    assert "…" not in text


def test_band_is_median_and_range(results):
    sgd = [run for run in results if run.contender.name == "keras/sgd"]
    x, (low, median, high) = band(sgd, "val_accuracy", "seconds")
    np.testing.assert_allclose(x, [1.1, 2.1, 3.1])
    np.testing.assert_allclose(low, [0.5, 0.6, 0.7])
    np.testing.assert_allclose(median, [0.5, 0.6, 0.7])
    np.testing.assert_allclose(high, [0.5, 0.8, 0.9])


def test_band_leaves_out_what_is_not_finite():
    runs = [result("a/b", 0, [0.5, math.nan])]
    x, values = band(runs, "val_accuracy", "step")
    assert x.tolist() == [10]
    assert values.shape == (3, 1)


def test_figure_is_labelled_and_pairs_libraries_by_colour(results):
    both = results + [result("keras/adam", 0, [0.4, 0.5, 0.6])]
    figure = curves_figure(both, "Title")
    assert figure.axes[0].get_ylabel() == "training loss"
    assert figure.axes[2].get_xlabel() == "training steps"
    assert figure.axes[3].get_xlabel() == "training time (s)"
    lines = {line.get_label(): line for line in figure.legends[0].get_lines()}
    assert list(lines) == ["keras/sgd", "ours/adam (1 of 3 diverged)", "keras/adam"]
    theirs, ours = lines["keras/adam"], lines["ours/adam (1 of 3 diverged)"]
    assert theirs.get_color() == ours.get_color() != lines["keras/sgd"].get_color()
    assert theirs.get_linestyle() != ours.get_linestyle()


def test_picture_is_written(results, tmp_path):
    path = save_curves(results, "Title", tmp_path / "curves.png")
    assert path.read_bytes().startswith(b"\x89PNG")
