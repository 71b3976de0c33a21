import math

import numpy as np
import pytest

from keras_adaptive.experiments import learning_rate_free as experiment
from keras_adaptive.experiments.learning_rate_free import Line
from keras_adaptive.study.reporting.tables import Spread


@pytest.mark.slow
def test_from_the_command_line_to_mlflow(store, monkeypatch, capsys):
    folder, client = store
    monkeypatch.setattr(experiment, "GRID", [0.01, 0.1])
    monkeypatch.setattr(experiment, "WIDENING_TRIALS", 1)
    arguments = ["--workloads", "breast_cancer", "--optimizers", "DoG", "Mechanic"]
    arguments += ["--seeds", "1", "--epochs", "1", "--output", "out"]
    assert experiment.main(arguments) == 0
    assert "within 2 points" in " ".join(capsys.readouterr().out.split())
    table = (folder / "out" / "table.md").read_text()
    assert "## breast_cancer" in table
    assert "| Adam, tuned: 0." in table
    assert table.count("| yes |") + table.count("| **no** |") == 2

    found = client.get_experiment_by_name("learning_rate_free")
    tags = [run.data.tags for run in client.search_runs([found.experiment_id])]
    by_phase = {
        phase: [t["seed"] for t in tags if t["phase"] == phase]
        for phase in ("tune", "compare")
    }
    assert set(by_phase["tune"]) == {"10000"}
    assert len(by_phase["tune"]) in (2, 3)
    assert by_phase["compare"] == ["0"] * 3


def test_who_is_within_two_points():
    def line(name, accuracy):
        spread = Spread(accuracy, accuracy, accuracy)
        return Line(name, 1.0, spread, spread)

    lines = [
        line("Adam", 0.9),
        line("a", 0.88),
        line("b", 0.8799),
        line("c", -math.inf),
    ]
    rows = experiment.to_markdown(lines).splitlines()[3:]
    assert [row.split(" | ")[0] for row in rows] == ["| a", "| b", "| c"]
    assert rows[0].endswith("| -2.0 | yes |")
    assert rows[1].endswith("| **no** |")
    assert rows[2].endswith("| diverged | diverged | -inf | **no** |")


def test_data_is_standardized_by_the_training_rows_and_split_without_overlap():
    data = experiment.standardized(None, "breast_cancer")
    x = data.train.x
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(axis=0), 1, atol=1e-5)
    rows = [tuple(row) for split in data.parts.values() for row in split.x]
    assert len(rows) == len(set(rows)) == 569


def test_initial_weights_depend_on_the_seed_alone():
    one, same, other = (
        experiment.perceptron(seed, 8, 3, hidden=[4]).get_weights()
        for seed in (1, 1, 2)
    )
    for left, right in zip(one, same, strict=True):
        np.testing.assert_array_equal(left, right)
    assert (one[0] != other[0]).any()


def test_contenders_run_at_their_defaults():
    for name, make in experiment.CONTENDERS.items():
        if name != "Mechanic":
            assert make(1.0, name="a").get_config() == make(name="a").get_config()


def test_another_backend_is_told_before_the_data_is_loaded(monkeypatch, capsys):
    monkeypatch.setattr(experiment.keras.backend, "backend", lambda: "torch")
    assert experiment.main(["--data", "nowhere"]) == 2
    assert "KERAS_BACKEND=tensorflow" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--workloads", "mnist"],
        ["--optimizers", "Adam"],
        ["--seeds", "0"],
        ["--epochs", "-1"],
    ],
)
def test_bad_options(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        experiment.parse(arguments, None)
    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err
