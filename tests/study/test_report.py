"""The report: what is in it, that it needs nothing else, and that it stands."""

import html
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from made_up import (
    REFERENCE,
    made_up_record,
    made_up_results,
    made_up_study,
    without_result,
)
from PIL import Image
from rich.console import Console
from scripted import Scripted

from keras_adaptive.study import Contender, Protocol, Study, StudyError
from keras_adaptive.study.reporting.html_elements import element
from keras_adaptive.study.reporting.html_report import this_command

CONTENDERS = {REFERENCE: {}, "adam": {"speed": 2.0}, "lion": {"accuracy": 0.95}}
HEADINGS = [
    "In short",
    "Verdicts",
    "Curves",
    "Sensitivity to hyper-parameters",
    "Over all workloads",
    "Effect sizes",
    "Tuned settings and their results",
    "Failed and diverged runs",
    "How it was made",
    "Run it again",
]
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Reads a page, and fails where tags are not closed in their order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.sources, self.words = [], set(), [], []
        self.headings = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.sources += [v for k, v in attributes if k in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)
        if self.open[-1:] == ["h2"]:
            self.headings.append(data)

    @property
    def text(self):
        return " ".join(self.words)


@pytest.fixture(scope="module")
def results():
    return made_up_study(CONTENDERS, workloads=("digits", "wine"))


@pytest.fixture(scope="module")
def page(results):
    return results.html("keras-adaptive compare --data digits")


def test_all_parts_are_there_and_verdicts_come_before_pictures(page):
    assert Page(page).headings == HEADINGS
    assert page.index("Take lion") < page.index("<img")


def test_it_needs_nothing_else(page, results):
    seen = Page(page)
    assert not seen.tags & {"script", "link", "iframe", "object", "base"}
    assert len(seen.sources) == len(results.pictures)
    assert all(each.startswith("data:image/png;base64,") for each in seen.sources)
    assert "@import" not in page and "url(" not in page and "http" not in page
    assert "prefers-color-scheme: dark" in page


def test_every_verdict_stands_in_words(page, results):
    text = Page(page).text
    for verdict in results.verdicts():
        assert verdict.why in text
    assert results.recommendation("wine").why in text


def test_the_overview_tells_on_how_many_workloads(page):
    row = re.search(r"<td>seconds to target</td>.*?</tr>", page)[0]
    assert row.count(">undecided<") == 2
    assert row.count("supported on 2, refuted on 0 of 2") == 1


def test_settings_versions_and_the_command_are_told(page):
    text = Page(page).text
    for words in (
        "epsilon 1e-07",
        "a computer",
        "made up",
        "d1",
        "Every optimizer was tuned on the validation data with 7 seeds of its own.",
        "run with 8 fresh seeds",
        "keras-adaptive compare --data digits",
        "No run failed, and none diverged.",
    ):
        assert words in text


def test_it_tells_which_runs_were_compiled_and_which_were_timed(tmp_path):
    def made(name, seed, engine="compiled", **changes):
        record = made_up_record(name, seed, **changes)
        return replace(record, params={**record.params, "engine": engine})

    records = [made(REFERENCE, seed) for seed in range(3)]
    whole = Page(made_up_results(records).report(tmp_path / "0.html").read_text())
    assert "3 runs were made as compiled programs" in " ".join(whole.words)
    assert "no run was timed by fit" in " ".join(whole.words)
    timed = made(REFERENCE, 9, "fit", phase="time")
    slow = made("adam", 0, "fit")
    slow.params["why_fit"] = "it prints"
    results = made_up_results([*records, timed, slow])
    words = " ".join(Page(results.report(tmp_path / "1.html").read_text()).words)
    assert "Their seconds follow from 1 short run by fit" in words
    assert "adam on digits ran by fit: it prints." in words


def test_everything_is_escaped():
    evil = '<script>alert("&")</script>'
    records = [
        replace(
            made_up_record(name, seed, workload=evil),
            reason=evil,
            metric="accuracy",
            params={**made_up_record(name, seed).params, "data_source": evil},
        )
        for name in (REFERENCE, f"{evil}-sgd")
        for seed in range(3)
    ]
    records[-1] = without_result(records[-1], "failed", evil)
    results = replace(made_up_results(records), title=evil)
    page = results.html(evil)
    assert "script" not in Page(page).tags
    assert html.escape(evil) in page


def test_what_was_lost_is_told_with_its_reason(results):
    records = [
        without_result(each, "diverged", f"not finite at step {each.seed % 9}")
        if each.setting.learning_rate == 0.1
        else each
        for each in results.records
        if each.workload == "digits"
    ]
    lost = made_up_record("adagrad", 0, phase="tune")
    records.append(without_result(lost, "failed", "OSError: no space"))
    text = Page(made_up_results(records).html("c")).text
    assert "No setting of adagrad worked on digits, so it was not judged there." in text
    assert "OSError: no space" in text
    assert "not finite at step 1; not finite at step 2; not finite at step 3" in text
    assert "; and 4 more" in text


@pytest.mark.parametrize(
    "records",
    [
        [made_up_record(REFERENCE, 0)],
        [without_result(made_up_record(REFERENCE, 0), "failed", "broken")],
        [without_result(made_up_record(REFERENCE, 0, phase="tune"), "diverged")],
        [made_up_record("adam", seed) for seed in range(2)],
    ],
    ids=["one run", "only a failed one", "nothing worked", "no reference"],
)
def test_a_study_with_next_to_nothing_has_a_report(records):
    text = Page(made_up_results(records).html("c")).text
    assert "There are no verdicts" in text


def test_a_target_that_nobody_reaches(results):
    records = [each for each in results.records if each.workload == "digits"]
    unreached = made_up_results(records, targets={"digits": 2.0})
    text = Page(unreached.html("c")).text
    assert "No pairs. Left out: seed 0 was a miss for both" in text
    assert "Here the target is 2.0000" in text
    assert "0/8 runs" in text


def test_pictures_tell_the_whole_story(results):
    names = [picture.name for picture in results.pictures]
    assert names == [
        "curves-digits",
        "curves-wine",
        "sensitivity-learning_rate",
        "profile",
        "ranks",
        "effects-steps-to-target",
        "effects-seconds-to-target",
        "effects-test-metric",
        "effects-train-test-gap",
        "effects-sensitivity-to-learning-rate",
        "effects-decades-of-learning-rate-within-5-",
        "effects-share-lost-by-one-learning-rate-for-all",
    ]
    for picture in results.pictures:
        assert Image.open(io.BytesIO(picture.png)).size > (400, 200)


def test_costs_are_less_where_more_is_better(results):
    costs = results.table.median_costs("test_metric")
    assert list(costs.index) == ["digits", "wine"]
    assert costs.loc["digits", "lion"] == pytest.approx(-0.9525)
    steps = results.table.median_costs("steps_to_target")
    assert steps.loc["wine"].to_dict() == {REFERENCE: 35, "adam": 35, "lion": 30}


def test_report_and_pictures_are_attached_to_the_study(store, workload):
    folder, client = store
    study = Study(
        "s",
        [workload],
        [Contender("keras/sgd", label="sgd"), "adam"],
        Protocol(tuning_trials=3, seeds=2, reference="sgd"),
    )
    results = study.run(Scripted(), Console(file=io.StringIO()))
    assert results.title == "s on tiny"
    files = results.plot(folder / "a" / "plots")
    report = results.report(folder / "b" / "report.html")
    assert report.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    kept = {each.path for each in client.list_artifacts(results.run_id)}
    assert kept == {"plots", "report.html"}
    plots = {each.path for each in client.list_artifacts(results.run_id, "plots")}
    assert plots == {f"plots/{file.name}" for file in files}
    text = Page(report.read_text(encoding="utf-8")).text
    for words in ("made for tests", "processors", "python", "keras-adaptive"):
        assert words in text


def test_a_report_is_written_though_mlflow_is_down(results, store, monkeypatch):
    folder, _ = store
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/mlflow.db")
    with pytest.warns(UserWarning, match="is not attached to the study's run"):
        report = results.report(folder / "report.html")
    assert report.exists()


def test_a_folder_that_cannot_be_made(results, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="cannot be made"):
        results.report(tmp_path / "file" / "report.html")
    with pytest.raises(StudyError, match="cannot be made") as caught:
        results.plot(tmp_path / "file")
    assert "--output" not in str(caught.value)


def test_attributes_are_escaped():
    assert element("img", title='"><script>') == (
        '<img title="&quot;&gt;&lt;script&gt;"></img>'
    )


@pytest.mark.parametrize(
    ("arguments", "original", "command"),
    [
        (
            ["/opt/bin/keras-adaptive", "compare", "--data", "my file.csv"],
            ["python3", "/opt/bin/keras-adaptive", "compare", "--data", "my file.csv"],
            "keras-adaptive compare --data 'my file.csv'",
        ),
        (
            ["study.py", "--quick"],
            ["/usr/bin/python3", "study.py", "--quick"],
            "python study.py --quick",
        ),
    ],
)
def test_the_command_that_makes_it_again(monkeypatch, arguments, original, command):
    monkeypatch.setattr("sys.argv", arguments)
    monkeypatch.setattr("sys.orig_argv", original)
    assert this_command() == command
