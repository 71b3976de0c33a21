import mlflow
import numpy as np
import pytest

from experiments import sparse_text

TOPICS = {"boats": "sail wind harbour mast", "trees": "leaf root bark branch"}


@pytest.fixture
def texts(tmp_path, monkeypatch):
    """A CSV file of texts, in a folder without a store of its own."""
    rng = np.random.default_rng(0)
    lines = ["text,topic"]
    for _ in range(60):
        for topic, words in TOPICS.items():
            lines.append(f"{' '.join(rng.choice(words.split(), 3))},{topic}")
    (tmp_path / "my.csv").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return ["--data", "csv:my.csv", "--text-column", "text", "--target", "topic"]


def test_from_the_command_line_to_mlflow(texts, tmp_path, capsys):
    arguments = ["--epochs", "2", "--seeds", "2", "--batch-size", "16", "--hidden", "8"]
    names = ["keras_adaptive/adam"]
    rates = ["--learning-rate", "adam=0.02", "--learning-rate", "sgd=0.3"]
    status = sparse_text.main(
        [*texts, *arguments, "--contenders", *names, *rates, "--output", "out"]
    )
    assert status == 0
    shown = capsys.readouterr().out
    assert "keras/sgd" in shown
    assert "keras_adaptive/adam" in shown
    assert "4/4" in shown
    folder = tmp_path / "out" / "sparse_text-csv-my.csv"
    files = sorted(file.name for file in folder.iterdir())
    assert files == ["curves.png", "table.csv", "table.md"]

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("sparse_text")
    runs = client.search_runs([experiment.experiment_id])
    children = [run for run in runs if run.data.tags["phase"] == "compare"]
    (parent,) = [run for run in runs if run.data.tags["phase"] == "study"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    marks = {
        (
            run.data.tags["contender"],
            run.data.tags["learning_rate"],
            run.data.tags["seed"],
        )
        for run in children
    }
    assert marks == {
        (name, rate, seed)
        for name, rate in [("keras/sgd", "0.3"), *((n, "0.02") for n in names)]
        for seed in "01"
    }
    artifacts = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert artifacts == set(files)
    assert all(run.data.metrics["test_accuracy"] > 0.4 for run in children)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "docstring"], "Did you mean 'docstrings'"),
        (["--data", "svmlight:"], "names nothing"),
        (["--data", "svmlight:none.svm"], "does not exist"),
        (["--data", "csv:my.csv"], "needs --target"),
        (["--data", "docstrings", "--max-words", "0"], "at least 1"),
    ],
)
def test_bad_input_is_told_before_training(texts, capsys, arguments, words):
    assert sparse_text.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert "Traceback" not in error


def test_another_backend_is_told_before_the_data_is_loaded(monkeypatch, capsys):
    monkeypatch.setattr(sparse_text.keras.backend, "backend", lambda: "torch")
    assert sparse_text.main(["--data", "nowhere"]) == 2
    assert "KERAS_BACKEND=tensorflow" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--learning-rate", "adam=-1"],
        ["--learning-rate", "adam=nan"],
        ["--learning-rate", "lion=1"],
        ["--epochs", "0"],
        ["--seeds", "-2"],
        ["--batch-size", "x"],
        ["--contenders", "keras/lion"],
    ],
)
def test_bad_options(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        sparse_text.parse(arguments, None)
    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_initial_weights_depend_on_the_seed_alone():
    one, same, other = (
        sparse_text.build_model(seed, 20, 4, 3).get_weights() for seed in (1, 1, 2)
    )
    for left, right in zip(one, same, strict=True):
        np.testing.assert_array_equal(left, right)
    assert (one[0] != other[0]).any()


def test_every_algorithm_has_a_learning_rate():
    algorithms = {name.split("/")[1] for name in sparse_text.OPTIMIZERS}
    assert algorithms == set(sparse_text.LEARNING_RATES)
