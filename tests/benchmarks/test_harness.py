"""Rounds, statistics, tables and markers of the benchmarks."""

import argparse
import itertools

import keras
import numpy as np
import pandas as pd
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("benchmarks start on TensorFlow", allow_module_level=True)

from benchmarks import harness


def summary():
    samples = pd.Series([4.0, 1.0, 2.0, 3.0, 5.0])
    return pd.DataFrame(
        {"optimizer": name, "case": case, "rounds": 5}
        | harness.quartiles(milliseconds=samples * n, times_as_fast=10 / samples / n)
        for name, case, n in [("a", "x", 1), ("a", "y", 2), ("b", "y", 100)]
    )


def test_quartiles_are_those_of_the_samples():
    row = summary().iloc[0]
    found = [row[f"milliseconds_{q}"] for q in ("q1", "median", "q3")]
    assert found == [2, 3, 4]
    assert row.times_as_fast_median == pytest.approx(10 / 3)


@pytest.mark.parametrize(
    "value, text",
    [
        (0.0123, "0.012"),
        (1.0, "1.0"),
        (12.3, "12"),
        (99.4, "99"),
        (99.7, "100"),
        (12345.6, "12,346"),
        (-0.51, "-0.51"),
    ],
)
def test_numbers_have_two_digits_or_are_whole(value, text):
    assert harness.number(value) == text


def test_ratios_stand_beside_all_but_the_reference():
    row = summary().iloc[0]
    assert harness.time_and_ratio(row) == "3.0 (2.0–4.0), 3.3 (2.5–5.0)×"
    for quartile in ("q1", "median", "q3"):
        row[f"times_as_fast_{quartile}"] = 1.0
    assert harness.time_and_ratio(row) == "3.0 (2.0–4.0)"


def test_who_ran_out_of_memory_has_no_time_and_no_ratio():
    row = summary().iloc[0]
    for quartile in ("q1", "median", "q3"):
        row[f"times_as_fast_{quartile}"] = np.nan  # the reference has no time
    assert harness.time_and_ratio(row) == "3.0 (2.0–4.0)"
    row.milliseconds_median = np.nan
    assert harness.time_and_ratio(row) == "out of memory"


def test_a_section_for_each_value_in_order():
    found = harness.sections(summary(), "case", lambda part: f"{len(part)}\n")
    assert found == "x:\n\n1\n\ny:\n\n2\n"


def test_a_table_has_a_dash_where_nothing_was_measured():
    def cell(row):
        return f"{row.milliseconds_median:.0f}"

    assert harness.markdown(summary(), "optimizer", "case", cell) == (
        "| optimizer | x | y |\n|---|---|---|\n| a | 3 | 6 |\n| b | – | 300 |\n"
    )
    assert harness.listing(summary()[:1], {"ms": cell}) == "| ms |\n|---|\n| 3 |\n"


def test_all_take_turns_in_every_round():
    seen = list(harness.in_turns("abcd", rounds=20))
    rounds = ["".join(seen[i : i + 4]) for i in range(0, 80, 4)]
    assert {"".join(sorted(one)) for one in rounds} == {"abcd"}
    assert len(set(rounds)) > 5


def test_measured_is_the_time_of_a_step(monkeypatch):
    now = 0.0

    def steps(seconds):
        nonlocal now
        for count in itertools.count():
            now += seconds if count > 0 else 10.0  # the first one compiles
            yield

    monkeypatch.setattr(harness.time, "perf_counter", lambda: now)
    samples = harness.measure({"fast": steps(0.001), "slow": steps(0.2)}, seconds=2)
    assert len(samples) == 8  # rounds of 0.05 and 0.2 s
    np.testing.assert_allclose(samples["fast"], 1)
    np.testing.assert_allclose(samples["slow"], 200)
    assert len(harness.measure({"slow": steps(0.2)}, seconds=0)) == 5
    assert len(harness.measure({"slow": steps(0.2)}, seconds=99)) == 40


def options(output, *pages):
    return argparse.Namespace(output=output, pages=list(pages))


def test_tables_go_between_their_markers(tmp_path):
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    begin, end = harness.marker("speed")
    page.write_text(f"before\n{begin}old\n{end}\nafter\n")
    other.write_text("nothing here\n")
    report = harness.Report("speed", summary(), "new\n", None, {"speed:part": "p\n"})
    report.publish(options(tmp_path / "results", page, other))
    assert page.read_text() == f"before\n{begin}new\n{end}\nafter\n"
    assert other.read_text() == "nothing here\n"
    assert (tmp_path / "results" / "speed.md").read_text() == "# speed\n\nnew\n"
    assert len(pd.read_csv(tmp_path / "results" / "speed.csv")) == 3


def test_pages_without_a_marker_are_an_error_that_names_it(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing here\n")
    report = harness.Report("speed", summary(), "new\n")
    with pytest.raises(ValueError, match="<!-- benchmark:speed -->"):
        report.publish(options(None, page))
    page.write_text(harness.marker("speed")[0])
    with pytest.raises(ValueError, match="<!-- /benchmark:speed -->"):
        report.publish(options(None, page))
    report.publish(options(None))


def test_bars_have_a_panel_for_each_case():
    figure = harness.bars(summary(), "optimizer", "case", "milliseconds", "ms")
    assert [panel.get_title() for panel in figure.axes] == ["x", "y"]
    assert [len(panel.patches) for panel in figure.axes] == [1, 2]


def test_bars_have_a_line_of_panels_for_each_value():
    bars = harness.bars(summary(), "case", "optimizer", "milliseconds", "ms", by="case")
    titles = [panel.get_title() for panel in bars.axes]
    assert titles == ["x: a", "x: b", "y: a", "y: b"]
    assert [len(panel.patches) for panel in bars.axes] == [1, 0, 1, 1]


def test_a_page_that_is_not_there_is_refused_before_anything_runs(capsys):
    with pytest.raises(SystemExit):
        harness.parser("Some benchmark.").parse_args(["--pages", "no/such.md"])
    assert "there is no file no/such.md" in capsys.readouterr().err
