"""Names that users choose: any printable one works, or is refused before training."""

from dataclasses import replace

import keras
import pytest
from rich.console import Console

from keras_adaptive.study import Contender, Epochs, Protocol, Study, StudyError
from keras_adaptive.study.publish import publish
from keras_adaptive.study.reporting.output import file_name


def momentum_called(name):
    """Makes an optimizer whose momentum is an argument of this name."""
    return lambda rate, **extra: keras.optimizers.SGD(rate, momentum=extra[name])


def dense_model(seed):
    glorot = keras.initializers.GlorotUniform(seed=seed)
    dense = keras.layers.Dense(2, kernel_initializer=glorot)
    return keras.Sequential([keras.Input((40,)), dense])


def study_of(workload, dense, contender, **names):
    workload = replace(workload, data=dense, build=dense_model, budget=Epochs(1))
    workload = replace(workload, **names)
    protocol = Protocol(
        tuning_trials=2, widening_trials=0, seeds=1, reference=contender
    )
    return Study("s", [workload], [contender], protocol)


@pytest.mark.parametrize("name", ["seed", "status", "metric", "key", "workload", "μ $"])
def test_a_hyper_parameter_called_like_a_part_of_the_record(
    workload, dense, store, name
):
    def contender():
        make = momentum_called(name)
        return Contender(make, [0.1], extra_hyperparameter=(name, (0.25, 0.75)))

    first = study_of(workload, dense, contender()).run()
    again = study_of(workload, dense, contender()).run()
    column = name if name in ("metric", "μ $") else f"hyperparameter.{name}"
    tuned = first.runs[first.runs["phase"] == "tune"]
    assert list(tuned[column]) == [0.25, 0.75]
    assert list(first.runs["status"]) == ["finished"] * 3
    assert list(first.runs["workload"]) == ["tiny"] * 3
    assert list(first.runs["seed"].astype(int)) == list(again.runs["seed"].astype(int))
    assert again.runs.equals(first.runs)
    assert again.tuned.equals(first.tuned)


@pytest.mark.parametrize("name", ["[/bold] x", ":smile: [red]", "n" * 250, "é" * 250])
def test_names_are_shown_and_stored_as_they_are(workload, dense, store, name):
    folder, _ = store
    contender = Contender("keras/sgd", [0.1], label=name)
    study = study_of(workload, dense, contender, name=name)
    console = Console(record=True, width=4000)
    results = study.run(console=console)
    place = folder / "out[/x]" / file_name(study.title)
    place.mkdir(parents=True)
    publish(results, place, console)
    assert (place / "report.html").is_file()
    shown = console.export_text()
    assert f"1/1 {name}, {name}, learning rate 0.1" in shown
    assert str(place / "report.html") in shown
    assert list(study.run(console=console).runs["workload"]) == [name]


@pytest.mark.parametrize("name", ["", " ", "n" * 251, "\ud800", 3])
def test_names_that_nothing_can_hold_are_refused_at_once(workload, name):
    contender = Contender("keras/sgd", [0.1])
    for refused in (
        lambda: replace(workload, name=name),
        lambda: Study(name, [workload], [contender], Protocol(reference="keras/sgd")),
        lambda: Contender("adam", [0.1], label=name or " "),
        lambda: Contender("adam", extra_hyperparameter=(name, (1, 2))),
    ):
        with pytest.raises(StudyError, match="Expected a text of at most 250 char"):
            refused()


def test_the_learning_rate_is_no_extra_hyper_parameter():
    with pytest.raises(StudyError, match="Give its values as learning_rates="):
        Contender("adam", extra_hyperparameter=("learning_rate", (1, 2)))


def test_long_titles_have_short_files_of_their_own():
    names = [file_name("é" * 300 + end) for end in ("a", "b")]
    assert len(set(names)) == 2
    assert all(len(name.encode()) <= 120 for name in names)
    assert file_name("short title") == "short-title"
