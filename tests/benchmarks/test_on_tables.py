"""Tables, contenders that are alone in memory, and what is made of their times."""

import keras
import numpy as np
import pandas as pd
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("benchmarks start on TensorFlow", allow_module_level=True)

from concurrent.futures.process import BrokenProcessPool

from benchmarks import on_tables
from benchmarks.on_tables import Table

LOW, TALL = Table(100, 4), Table(10**7, 64)


def test_tables_have_their_powers_of_ten_as_names():
    assert Table.parse("1e6x64") == Table(10**6, 64)
    assert str(Table(10**6, 64)) == "10⁶ × 64"
    assert str(Table(2500, 3)) == "2,500 × 3"


def test_adam_on_a_large_table_does_not_fit_twice():
    assert TALL.is_large
    assert not Table(10**7, 16).is_large


@pytest.mark.parametrize("distribution", ["uniform", "zipf"])
def test_ids_are_rows_of_the_table(distribution):
    ids = on_tables.drawn(Table(1000, 4), (50, 100), distribution)
    assert ids.shape == (50, 100)
    assert ids.min() >= 0 and ids.max() < 1000
    _, counts = np.unique(ids, return_counts=True)
    assert (counts.max() > 200) == (distribution == "zipf")


def samples():
    columns = {
        ("Keras", LOW): [2.0, 4.0, 6.0],
        ("lazy", LOW): [1.0, 1.0, 2.0],
        ("Keras", TALL): [np.nan],
        ("lazy", TALL): [3.0],
    }
    return pd.DataFrame({key: pd.Series(each) for key, each in columns.items()})


def test_growth_is_within_a_round_or_to_the_median():
    summary = on_tables.summarize(samples(), "Keras").set_index(["label", "rows"])
    lazy, alone = summary.loc["lazy", 100], summary.loc["lazy", 10**7]
    assert lazy.growth_q1 == lazy.growth_q3 == 1
    assert lazy.times_as_fast_median == 3
    assert (lazy.rounds, alone.rounds) == (3, 1)
    assert alone.growth_median == 3  # over the median 1
    assert on_tables.growth(alone) == "3.0 (3.0–3.0)"
    none = summary.loc["Keras", 10**7]
    assert none.rounds == 0 and np.isnan(none.milliseconds_median)
    assert np.isnan(alone.times_as_fast_median)
    assert on_tables.growth(none) == "–"


def test_curves_have_a_panel_for_each_value():
    summary = on_tables.summarize(samples(), "Keras").assign(panel="p")
    colors = {"Keras": "red", "lazy": "blue"}
    figure = on_tables.plot(summary, "panel", colors)
    assert [panel.get_title() for panel in figure.axes] == ["p"]
    many = pd.concat([summary.assign(panel=str(n)) for n in range(5)])
    assert len(on_tables.plot(many, "panel", colors).axes) == 5


def test_contenders_on_large_tables_are_measured_apart(monkeypatch):
    ran = []

    def in_process_of(backend, function, make, shared, seconds):
        ran.append([*shared])
        return pd.DataFrame({key: [1.0, 2.0, 3.0, 4.0] for key in shared})

    def alone(backend, function, make, arguments):
        ran.append(arguments)
        return None if arguments == ("b",) else 7.0

    monkeypatch.setattr(on_tables.backends, "in_process_of", in_process_of)
    monkeypatch.setattr(on_tables, "if_it_fits", alone)
    columns = {("a", LOW): ("A",), ("a", TALL): ("a",), ("b", TALL): ("b",)}
    found = on_tables.measure("torch", None, columns, 1.0)
    assert list(found.columns) == list(columns)
    assert ran[0] == [("a", LOW)]
    assert sorted(ran[1:]) == 3 * [("a",)] + 3 * [("b",)]
    assert found["a", LOW].count() == 4
    assert list(found["a", TALL].dropna()) == [7, 7, 7]
    assert found["b", TALL].count() == 0


@pytest.mark.slow
def test_a_process_that_takes_too_much_memory_ends_and_others_do_not():
    assert on_tables.if_it_fits("jax", np.ones, 3).sum() == 3
    sleep = on_tables.time.sleep
    assert on_tables.if_it_fits("jax", sleep, 600, limit=2**20) is None


@pytest.mark.slow
def test_a_process_that_breaks_is_an_error():
    with pytest.raises(BrokenProcessPool):
        on_tables.if_it_fits("jax", on_tables.os._exit, 1)
