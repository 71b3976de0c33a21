"""The five experiments, and what they have in common."""

import math
import textwrap
from functools import partial

import keras
import numpy as np
import pytest
from scripted import Scripted, scripted

from keras_adaptive.commands import options as command
from keras_adaptive.commands.experiment import Experiment
from keras_adaptive.datasets.bundled import load_digits
from keras_adaptive.datasets.rare import rare_slice
from keras_adaptive.datasets.synthetic import RareCategories
from keras_adaptive.errors import InputError
from keras_adaptive.experiments import (
    convergence,
    generalization,
    robustness,
    sparse_tabular,
    sparse_text,
)
from keras_adaptive.study import Contender, Epochs, Protocol, Study
from keras_adaptive.study.analysis import promises
from keras_adaptive.study.design.defaults import default_contenders, default_workload

TOPICS = {"boats": "sail wind harbour mast", "trees": "leaf root bark branch"}
OUTCOMES = ("supported", "refuted", "undecided")
EXPERIMENTS = {
    convergence: ["--data", "wine", "digits"],
    generalization: ["--data", "wine"],
    robustness: ["--data", "wine"],
    sparse_tabular: ["--data", "rare_categories"],
    sparse_text: ["--data", "my.csv", "--text-column", "text", "--target", "topic"],
}


def name_of(experiment):
    return experiment.__name__.rpartition(".")[2]


@pytest.fixture
def texts(store):
    """A CSV file of texts, and an empty MLflow store."""
    folder, client = store
    rng = np.random.default_rng(0)
    lines = ["text,topic"]
    for _ in range(60):
        for topic, words in TOPICS.items():
            lines.append(f"{' '.join(rng.choice(words.split(), 3))} word{_},{topic}")
    (folder / "my.csv").write_text("\n".join(lines))
    return folder, client


def with_slice(trial):
    """A made-up record that has the rare slice too, and no misses of the target."""
    record = scripted(trial)
    accuracy = record.numbers["test_accuracy"]
    record.numbers["test_accuracy.rare"] = accuracy / 2
    record.numbers["step_seconds"] = 0.001
    return record


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=name_of)
def test_from_the_command_line_to_verdicts(experiment, texts, monkeypatch, capsys):
    """All but the training, which is made up."""
    folder, client = texts
    monkeypatch.setattr(
        command,
        "run_study",
        lambda study, options, console: study.run(
            Scripted(with_slice), console, runner="fit"
        ),
    )
    status = experiment.main(
        [*EXPERIMENTS[experiment], "--quick", "--output", "out"], "keras-adaptive"
    )
    assert status == 0
    shown = capsys.readouterr().out
    name = name_of(experiment)
    assert ("test rows are rare" in shown) == name.startswith("sparse")
    lines = [line for line in shown.splitlines() if line.startswith("  adam on ")]
    assert lines
    for line in lines:
        assert any(f": {outcome}. " in line for outcome in OUTCOMES)
    (page,) = folder.glob(f"out/{name}-on-*/tables/verdicts.md")
    (row, *_) = [each for each in page.read_text().splitlines() if "| adam |" in each]
    assert any(f"| {outcome}, " in row for outcome in OUTCOMES)
    (report,) = folder.glob(f"out/{name}-on-*/report.html")
    assert report.read_text().startswith("<!DOCTYPE html>")
    runs = client.search_runs([client.get_experiment_by_name(name).experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    artifacts = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert artifacts == {"plots", "report.html", "tables"}


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=name_of)
def test_studies_in_full_and_for_a_first_look(experiment, quick, tiny):
    data = tiny if experiment is sparse_text else RareCategories(rows=2_000).load()
    study = experiment.study([data], quick)
    assert study.reference == "keras/sgd-momentum"
    trials = study.protocol.tuning_trials
    assert {len(each.grid(trials)) for each in study.contenders} == {trials}
    judged = study.protocol.evaluation_seeds
    if experiment is robustness:
        judged = study.protocol.seeds_to_tune
    assert len(judged) >= 7, "fewer pairs cannot decide two workloads"


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=name_of)
def test_the_lines_for_python_work(experiment, tiny, monkeypatch):
    """All but the training and the largest dataset, which are left out."""
    monkeypatch.setattr("keras_adaptive.datasets.load_docstrings", lambda: tiny)
    monkeypatch.setattr(Study, "run", lambda study: study)
    _, lines = experiment.__doc__.split("In Python:\n")
    lines, verdicts = textwrap.dedent(lines).strip().rsplit("\n", 1)
    names = {}
    exec(lines, names)
    assert verdicts == "verdicts = results.verdicts()"
    assert names["results"].name == name_of(experiment)
    assert names["results"].judge is experiment.judge


@pytest.mark.slow
def test_an_experiment_trains(texts, monkeypatch):
    """A small study of real runs, from a file to the rare slice."""
    folder, client = texts

    def study(data, quick):
        assert quick
        reference, adam = (
            Contender(each.optimizer, [0.1], label=each.label)
            for each in default_contenders(["adam"], trials=3)
        )
        rare = partial(rare_slice, below=60)
        workloads = [default_workload(each, Epochs(2), rare) for each in data]
        protocol = Protocol(seeds=2, reference=reference)
        return Study("small", workloads, [adam], protocol, judge=judge)

    def judge(table):
        seen.append(table)
        return promises.sparse(table.runs, table.reference, table.directions)

    seen = []
    experiment = Experiment(
        "What?",
        data=["digits"],
        quick_data=["wine"],
        study=study,
    )
    options = experiment.parse([*EXPERIMENTS[sparse_text], "--quick"], None)
    verdicts = experiment.run(options)
    assert {verdict.outcome for verdict in verdicts} == {"undecided"}
    runs = seen[0].runs
    assert len(runs) == 4
    assert (runs["status"] == "finished").all()
    assert (runs["test_metric"] > 0.6).all()
    assert runs["rare_metric"].between(0, 1).all()
    (plots,) = folder.glob("results/small-on-csv-my.csv-*/plots")
    assert (plots / "curves-csv-my.csv.png").exists()


def test_data_in_full_quick_or_as_named():
    experiment = Experiment("What?", ["digits", "wine"], ["wine"], None)
    assert experiment.parse([], None).data == ["digits", "wine"]
    assert experiment.parse(["--quick"], None).data == ["wine"]
    assert experiment.parse(["--quick", "--data", "digits"], None).data == ["digits"]


def test_vocabularies_that_a_text_does_not_have(tiny):
    names = [each.name for each in sparse_text.study([tiny], False).workloads]
    assert names == ["tiny-40-words"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "docstring"], "Did you mean 'docstrings'"),
        (["--data", "svmlight:"], "names nothing"),
        (["--data", "svmlight:none.svm"], "does not exist"),
        (["--data", "csv:my.csv"], "needs --target"),
        (["--data", "my.csv", "--target", "topik"], "Did you mean 'topic'"),
        (["--data", "my.csv", "--target", "text"], "too few rows"),
        (["--max-words", "0"], "at least 1"),
    ],
)
def test_bad_input_is_told_before_training(texts, capsys, arguments, words):
    assert sparse_text.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert "Traceback" not in error


def test_data_without_rare_features_is_told_before_training(texts, capsys):
    assert sparse_tabular.main(["--data", "wine"]) == 2
    assert "neither categories nor sparse features" in capsys.readouterr().err


def test_sparse_text_on_another_backend(texts, monkeypatch, capsys):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert sparse_text.main(EXPERIMENTS[sparse_text]) == 2
    assert "KERAS_BACKEND=tensorflow" in capsys.readouterr().err


def test_default_contenders():
    contenders = default_contenders(["keras/adam", "adam", "keras/sgd-momentum"], 5)
    assert [each.label for each in contenders] == [
        "keras/sgd-momentum",
        "keras/adam",
        "adam",
    ]
    assert contenders[0].make(contenders[0].grid(5)[0]).momentum == 0.9
    rates = [setting.learning_rate for setting in contenders[2].grid(5)]
    assert math.isclose(rates[2], 0.00316228)
    with pytest.raises(InputError, match="'adm'.*Did you mean 'adam'"):
        default_contenders(["adm"], 5)


def test_default_workload_has_batches_for_its_size():
    assert default_workload(load_digits()).batch_size == 32
    assert default_workload(RareCategories(rows=8_000).load()).batch_size == 128
