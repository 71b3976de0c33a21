"""Each benchmark runs at tiny sizes and writes its table; no time is checked."""

import re

import keras
import numpy as np
import pandas as pd
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("benchmarks start on TensorFlow", allow_module_level=True)

from benchmarks import (
    __main__,
    bag_of_words,
    bandwidth,
    dense_step,
    embedding_layer,
    first_step,
    fit_step,
    harness,
    memory,
    on_tables,
    small_tables,
    sparse_step,
)

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def short_samples(monkeypatch):
    monkeypatch.setattr(harness, "SAMPLE_SECONDS", 1e-4)
    # The threads of PyTorch wait by spinning, and other tests run beside these.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


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
    measured = summary.groupby("backend", sort=False)["optimizer"].unique()
    ours = ["Keras Adam", "Adam", "as many bytes as Adam"]
    in_torch = ["torch Adam, fused", "torch Adam, foreach"]
    in_optax = ["optax adam, jit"] if harness.installed("optax") else []
    assert {backend: list(names) for backend, names in measured.items()} == {
        "TensorFlow": [*ours, *in_torch, *in_optax],
        "PyTorch": [*ours, *in_torch],
        "JAX": [*ours, *in_optax],
    }
    assert (summary.groupby(["backend", "optimizer"]).size() == 3).all()
    reference = summary["times_as_fast_median"][summary["optimizer"] == "Keras Adam"]
    assert len(reference) == 9 and reference.eq(1).all()
    assert page.index("TensorFlow:") < page.index("PyTorch:") < page.index("JAX:")
    assert page.count("| Keras Adam | ") == 3


TINY = ["--tables", "100x4", "1e3x4"]


@pytest.fixture
def one_process_each(monkeypatch):
    """Makes a table of 10³ × 4 a large one, and one round enough."""
    monkeypatch.setattr(on_tables, "LARGE", 10**4)
    monkeypatch.setattr(on_tables, "ROUNDS_ALONE", 1)


@pytest.mark.parametrize("training", [False, True])
def test_sparse_step(run, training):
    name = "training_step" if training else "sparse_step"
    arguments = ["--families", "Adam", *TINY, "--ids", "16"]
    arguments += ["--backends", "tensorflow", "jax"]
    arguments += ["--training"] if training else []
    summary, page = run(sparse_step.main, name, *arguments)
    assert_measured(summary, "growth")
    assert set(summary["table"]) == {"10² × 4", "10³ × 4"}
    measured = summary.groupby("backend", sort=False)["label"].unique()
    ours = ["Keras", "deferred", "lazy"]
    on_tensorflow = [*ours, "deferred, row-wise"]
    expected = {
        "TensorFlow": [*on_tensorflow, "torch", "bare operations"],
        "JAX": ["Keras", "dense", *(["optax"] if harness.installed("optax") else [])],
    }
    if training:
        expected = {"TensorFlow": on_tensorflow}
    assert {backend: list(names) for backend, names in measured.items()} == expected
    assert "| Adam, deferred | " in page


def test_a_large_table_has_one_contender_at_a_time(run, one_process_each):
    arguments = ["--backends", "torch", *TINY]
    summary, page = run(embedding_layer.main, "embedding_layer", *arguments)
    assert_measured(summary, "growth")
    is_alone = summary["table"] == "10³ × 4"
    assert is_alone.sum() == len(embedding_layer.CONTENDERS["torch"])
    assert (summary["rounds"][is_alone] == 1).all()
    assert (summary["rounds"][~is_alone] >= 5).all()
    assert "10³ × 4: 1 round, each contender alone" in page
    assert "same deferred Adam" not in page


def test_embedding_layer(run):
    arguments = ["--backends", "tensorflow", *TINY]
    summary, page = run(embedding_layer.main, "embedding_layer", *arguments)
    assert_measured(summary, "growth")
    assert list(summary["label"].unique()) == [
        "Keras Adam, Keras's layer",
        "Adam, deferred, Keras's layer",
        "Adam, deferred, our layer",
    ]
    compared = summary[summary["over_keras_layer_median"].notna()]
    assert_measured(compared, "over_keras_layer")
    assert list(compared["label"]) == 2 * ["Adam, deferred, our layer"]
    assert page.count("| Adam, deferred, our layer | ") == 3


def test_the_models_have_the_layers_and_optimizers_that_they_say():
    table = on_tables.Table(1000, 4)
    for contender in embedding_layer.CONTENDERS["tensorflow"]:
        model = contender.model(table)
        for part, whose in [
            (model.layers[0], contender.layer),
            (model.optimizer, contender.optimizer),
        ]:
            is_ours = type(part).__module__.startswith("keras_adaptive.")
            assert is_ours == (whose == "ours"), contender
        assert model.layers[0].embeddings.shape == table


def test_bandwidth(run):
    chosen = ["--backends", "tensorflow", "torch", "--optimizers", "Adam", "Lion"]
    summary, page = run(bandwidth.main, "bandwidth", *chosen)
    assert_measured(summary, "times_the_limit")
    assert (summary.groupby("optimizer").size() == 2).all()
    for name, moved in [("Lion", 20), ("Adam", 28)]:
        found = summary["bytes"][summary["optimizer"] == name]
        np.testing.assert_allclose(found, moved, atol=0.01)
    assert "| optimizer | bytes a parameter | TensorFlow | PyTorch |" in page
    assert "| Lion | 20 | " in page


def test_the_page_names_who_is_far_from_the_limit():
    summary = pd.DataFrame(
        {
            "optimizer": name,
            "backend": backend,
            "variable": "v",
            "bytes": 28.0,
            "rounds": 5,
        }
        | harness.quartiles(
            milliseconds=pd.Series([1.0]),
            limit=pd.Series([1.0]),
            times_the_limit=pd.Series([times]),
            gigabytes_a_second=pd.Series([1.0]),
        )
        for name, backend, times in [
            ("Adam", "TensorFlow", 1.0),
            ("Ftrl", "TensorFlow", 1.9),
            ("Adam", "PyTorch", 2.1),
            ("Ftrl", "PyTorch", 3.0),
        ]
    )
    page = bandwidth.report(summary).page
    far = "More than 2 times the limit: TensorFlow: none; PyTorch: Adam, Ftrl."
    assert far in page
    assert "| Ftrl | 28 | 1.0, 1.9 (1.9–1.9)× | 1.0, 3.0 (3.0–3.0)× |" in page


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
