"""Each benchmark runs at tiny sizes and writes its table; no time is checked."""

import re

import keras
import numpy as np
import pandas as pd
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("benchmarks are of TensorFlow", allow_module_level=True)

from benchmarks import (
    __main__,
    bag_of_words,
    bandwidth,
    dense_step,
    first_step,
    fit_step,
    harness,
    memory,
    small_tables,
    sparse_step,
)

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def short_samples(monkeypatch):
    monkeypatch.setattr(harness, "SAMPLE_SECONDS", 1e-4)


@pytest.fixture
def run(tmp_path):
    """A function that runs a benchmark and returns its summary and its page."""

    def run_quick(main, name, *arguments):
        page = tmp_path / "page.md"
        page.write_text("".join(harness.marker(name)))
        main(["--quick", *arguments, "--output", str(tmp_path), "--pages", str(page)])
        text = (tmp_path / f"{name}.md").read_text()
        assert text.removeprefix(f"# {name}\n\n") in page.read_text()
        return pd.read_csv(tmp_path / f"{name}.csv"), text

    return run_quick


def assert_measured(summary, name):
    low, middle, high = (summary[f"{name}_{q}"] for q in ("q1", "median", "q3"))
    assert (low > 0).all() and (low <= middle).all() and (middle <= high).all()


def test_fit_step(run):
    summary, page = run(
        fit_step.main,
        "fit_step",
        *("--backends", "torch", "tensorflow", "--families", "Adam", "RAdam"),
    )
    assert_measured(summary, "milliseconds")
    assert summary["backend"].unique().tolist() == ["PyTorch", "TensorFlow"]
    assert summary["reference"].unique().tolist() == ["Adam"]
    assert "PyTorch:" in page


def test_dense_step(run):
    summary, page = run(dense_step.main, "dense_step", "--families", "Adam")
    assert_measured(summary, "milliseconds")
    assert len(summary) == 3 * len(dense_step.contenders("Adam"))
    assert (
        (summary["times_as_fast_median"][summary["optimizer"] == "Keras Adam"])
        .eq(1)
        .all()
    )
    assert "| Adam | " in page and "| Keras Adam | " in page


@pytest.mark.parametrize("training", [False, True])
def test_sparse_step(run, training):
    name = "training_step" if training else "sparse_step"
    arguments = ["--families", "Adam", "--tables", "100x4", "1e3x4", "--ids", "16"]
    arguments += ["--training"] if training else []
    summary, page = run(sparse_step.main, name, *arguments)
    assert_measured(summary, "growth")
    assert set(summary["table"]) == {"10² × 4", "10³ × 4"}
    assert "| Adam, deferred | " in page


def test_bandwidth(run):
    chosen = ["Adam", "Lion"]
    summary, page = run(bandwidth.main, "bandwidth", "--optimizers", *chosen)
    assert_measured(summary, "times_the_limit")
    assert dict(zip(summary["optimizer"], summary["bytes"], strict=True)) == {
        "Lion": pytest.approx(20, abs=0.01),
        "Adam": pytest.approx(28, abs=0.01),
    }
    assert "| Lion | 20 | " in page


def test_the_limit_is_for_rules_that_take_entries_alone():
    found = bandwidth.catalogue()
    assert {"Adam", "SGD", "Adan", "ScheduleFreeAdamW"} <= found.keys()
    assert not {"Lamb", "Muon", "DoG", "SAM", "Adafactor"} & found.keys()


def test_copies_copy():
    steps = bandwidth.copy_steps(1001)
    next(steps)
    target = steps.gi_frame.f_locals["target"]
    np.testing.assert_array_equal(target, 1)


def test_first_step(run, monkeypatch):
    monkeypatch.setattr(harness, "in_fresh_process", lambda f, *args: f(*args))
    summary, page = run(first_step.main, "first_step")
    assert_measured(summary, "seconds")
    assert list(summary["optimizer"]) == ["Keras Adam", "Adam"]
    assert re.search(r"\| Adam \| .* s \|", page)


def test_small_tables(run):
    summary, page = run(small_tables.main, "small_tables")
    assert_measured(summary, "ratio")
    assert set(summary["constant"]) == {"SMALL_TABLE", "ROWS_PER_ID"}
    assert "SMALL_TABLE is 32,768" in page


def test_each_way_of_a_small_table_is_the_one_it_says():
    def row_state(constant, size, limits):
        problem = small_tables.problems(constant, 16, quick=True)[size]
        optimizer = small_tables.Adam(0.1)
        steps = small_tables.keras_steps(optimizer, problem)
        with small_tables.mock.patch.multiple(small_tables.sparse, **limits):
            next(steps)
        return optimizer._engine.rows.kept.by_name

    def has_row_state(limits):
        return bool(row_state("SMALL_TABLE", 1024, limits))

    def rows_behind(limits):
        clock = row_state("ROWS_PER_ID", 4, limits)["clock"][0]
        return int(np.sum(clock.numpy() == 0))

    assert rows_behind(small_tables.BY_ROW) > 0
    assert rows_behind(small_tables.WHOLE["ROWS_PER_ID"]) == 0
    assert has_row_state(small_tables.BY_ROW)
    assert not has_row_state(small_tables.WHOLE["SMALL_TABLE"])


def test_bag_of_words(run):
    summary, page = run(bag_of_words.main, "bag_of_words", "--rounds", "1")
    assert_measured(summary, "seconds")
    assert_measured(summary, "times_as_fast")
    assert list(summary["contender"]) == list(bag_of_words.CONTENDERS)
    assert "Adam, SparseDense, training_batches" in page


def test_made_up_texts_tell_their_class():
    data = bag_of_words.synthetic(2000, 3000)
    assert data.train.x.shape == (2000, 3000)
    assert data.train.x.indices.max() < 3000
    centers = np.stack(
        [data.train.x[data.train.y == k].mean(axis=0).A1 for k in range(20)]
    )
    x, y = data.validation
    assert np.mean((x @ centers.T).argmax(axis=1) == y) > 0.5


def test_memory(run):
    summary, page = run(memory.main, "memory")
    ours, peer = summary.itertuples()
    size = 4 * 16 * 10**6
    assert 3 * size < ours.kept < 3.5 * size  # and a clock for each row
    assert peer.kept == pytest.approx(3 * size, rel=0.01)
    assert peer.step > size > 4 * ours.step  # a temporary of the table's shape
    assert "| Keras Adam | 183 | " in page


def test_one_command_runs_all_and_fills_the_pages(tmp_path):
    commands = __main__.commands(["--data-home", "here"])
    assert len(commands) == len(__main__.RUNS)
    for command in commands:
        assert str(harness.ROOT / "docs" / "speed.md") in command
        assert ("--data-home" in command) == (command[0] == "benchmarks.bag_of_words")
    quick = __main__.commands(["--quick"])
    assert all("--pages" not in c and "--output" not in c for c in quick)


def test_the_pages_have_the_markers_of_all_benchmarks():
    names = {
        "training_step" if "--training" in run else run[0] for run in __main__.RUNS
    }
    text = "".join(page.read_text(encoding="utf-8") for page in __main__.PAGES)
    for name in names | {"dense_step:Adam", "sparse_step:Adam"}:
        assert text.count(harness.marker(name)[0]) == 1
        assert text.count(harness.marker(name)[1]) == 1
