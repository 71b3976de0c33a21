import math
from functools import partial

import keras
import pytest

from keras_adaptive import optimizers
from keras_adaptive.study import (
    Contender,
    Epochs,
    Protocol,
    Steps,
    Study,
    StudyError,
    Workload,
)
from keras_adaptive.study.design.contender import optimizer_names
from keras_adaptive.study.design.setting import Setting


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("adam", optimizers.Adam),
        ("keras_adaptive/adam", optimizers.Adam),
        ("Schedule_Free_AdamW", optimizers.ScheduleFreeAdamW),
        ("keras/adam", keras.optimizers.Adam),
        ("keras/SGD", keras.optimizers.SGD),
    ],
)
def test_names(name, cls):
    contender = Contender(name)
    assert contender.label == name
    made = contender.make(Setting(0.25))
    assert type(made) is cls
    assert float(made.learning_rate) == 0.25


def test_every_name_makes_an_optimizer_with_a_grid():
    names = optimizer_names()
    assert {"adam", "keras/adam", "prodigy", "muon"} <= set(names)
    for name in names:
        grid = Contender(name).grid(3)
        assert len(grid) == 3, name


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("adm", "adam"), ("keras/adamm", "keras/adam"), ("shampo", "shampoo")],
)
def test_unknown_names_suggest_the_nearest(name, nearest):
    with pytest.raises(StudyError, match=f"Did you mean '{nearest}'"):
        Contender(name)


def test_a_wrapper_needs_a_function():
    with pytest.raises(StudyError, match="need a function"):
        Contender("lookahead")
    made = Contender(lambda rate: optimizers.Lookahead(optimizers.Adam(rate)))
    assert made.label == "lookahead"


def test_functions_are_called_by_their_optimizer():
    ours = Contender(partial(optimizers.Adam, beta_1=0.8))
    theirs = Contender(lambda rate: keras.optimizers.Adam(rate))
    assert (ours.label, theirs.label) == ("adam", "keras/adam")
    assert ours.make(Setting(0.1)).beta_1 == 0.8


def rates(settings):
    return [setting.learning_rate for setting in settings]


def test_the_grid_lies_around_the_default_rate():
    assert rates(Contender("adam").grid(5)) == [
        0.0001,
        0.000316228,
        0.001,
        0.00316228,
        0.01,
    ]
    assert rates(Contender("keras/sgd").grid(1)) == [0.01]


def test_an_extra_hyper_parameter_shares_the_budget():
    contender = Contender("adam", extra_hyperparameter=("epsilon", (1e-4, 1e-8)))
    grid = contender.grid(6)
    assert rates(grid) == [0.000316228] * 2 + [0.001] * 2 + [0.00316228] * 2
    assert [setting.extra_hyperparameter for setting in grid[:2]] == [
        ("epsilon", 1e-8),
        ("epsilon", 1e-4),
    ]
    assert contender.make(grid[1]).epsilon == 1e-4
    with pytest.raises(StudyError, match="each of 2 values of epsilon.*5 trials"):
        contender.grid(5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": 3}, "a name such as 'adam'"),
        ({"optimizer": lambda rate: "adam"}, "is 'adam'. Expected a function"),
        ({"optimizer": lambda rate: 1 / 0}, "cannot be made.*division by zero"),
        ({"learning_rates": []}, "the grid is empty"),
        ({"learning_rates": [0.1, 0.1]}, "names a value twice"),
        ({"learning_rates": [0.1, -1]}, "not a positive, finite number"),
        ({"learning_rates": [math.inf]}, "not a positive, finite number"),
        (
            {"extra_hyperparameter": ("epsilon", [])},
            "Values of epsilon: the grid is empty",
        ),
    ],
)
def test_bad_contenders(options, words):
    with pytest.raises(StudyError, match=words):
        Contender(**{"optimizer": "adam", **options})


def test_budgets():
    assert (Epochs(3).steps(60, 16), Epochs(3).evaluate_every(60, 16)) == (12, 4)
    assert (Steps(50).steps(60, 16), Steps(50).evaluate_every(60, 16)) == (50, 3)
    assert Steps(5, every=9).evaluate_every(60, 16) == 5
    for bad in (0, -1, 2.5, True):
        with pytest.raises(StudyError, match="whole number above 0"):
            Epochs(bad)
        with pytest.raises(StudyError, match="whole number above 0"):
            Steps(10, every=bad)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seeds": 0}, "seeds is 0"),
        ({"seeds": []}, "at least one"),
        ({"seeds": [1, 1]}, "different seeds"),
        ({"tuning_seeds": 0}, "tuning_seeds is 0"),
        ({"tuning_seeds": [3], "seeds": 4}, "seed 3 is for both"),
        ({"tuning_trials": 0}, "tuning_trials is 0"),
        ({"widening_trials": -1}, "widening_trials is below 0"),
        ({"budget": 20}, "Epochs.n. or Steps.n."),
    ],
)
def test_bad_protocols(options, words):
    with pytest.raises(StudyError, match=words):
        Protocol(**options)


def test_seeds_for_tuning_are_apart_from_those_for_judging():
    protocol = Protocol(tuning_seeds=2, seeds=3)
    assert protocol.evaluation_seeds == (0, 1, 2)
    assert protocol.seeds_to_tune == (10_000, 10_001)


def workload(**options):
    return Workload(
        **{"name": "w", "build": print, "data": print, "loss": "mse", **options}
    )


@pytest.mark.parametrize(
    ("metric", "name", "direction"),
    [
        ("accuracy", "accuracy", "max"),
        ("loss", "loss", "min"),
        ("mae", "mae", "min"),
        ("auc", "auc", "max"),
        ("mean_squared_error", "mean_squared_error", "min"),
        (keras.metrics.AUC, "auc", "max"),
        (lambda: keras.metrics.R2Score(name="r2_7"), "r2_7", "max"),
    ],
)
def test_metrics_and_their_directions(metric, name, direction):
    made = workload(metric=metric)
    assert (made.metric_name, made.direction) == (name, direction)
    assert [getattr(each, "name", each) for each in made.make_metrics()] == (
        [] if name == "loss" else [name]
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"metric": "acuracy"}, "Did you mean 'accuracy'"),
        ({"metric": keras.metrics.AUC()}, "a function without arguments"),
        ({"metric": lambda: "accuracy"}, "a function without arguments"),
        ({"metric": "false_positives"}, "direction='max' or direction='min'"),
        ({"direction": "up"}, "'max' if more"),
        ({"loss": "mean_sqared_error"}, "Did you mean 'mean_squared_error'"),
        ({"build": "model"}, "a function from a seed"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"budget": 10}, "Epochs.n. or Steps.n."),
    ],
)
def test_bad_workloads(options, words):
    with pytest.raises(StudyError, match=words):
        workload(**options)


@pytest.mark.parametrize(
    ("workloads", "contenders", "protocol", "words"),
    [
        ([], ["adam"], {}, "no workloads"),
        (["w", "w"], ["adam"], {}, "Two workloads.*called 'w'"),
        (["w"], ["adam", "adam"], {}, "Two contenders.*called 'adam'"),
        (
            ["w"],
            ["adam"],
            {"reference": "sgd"},
            "'sgd' is none of the contenders: adam",
        ),
        (["w"], ["adam"], {"target": {"v": 0.9}}, "target for 'v'"),
        (["w"], [Contender("adam", [0.1, 0.2])], {}, "2 learning rates.*9 trials"),
        (
            ["w"],
            [Contender("adam", extra_hyperparameter=("beta_1", [0.5, 1.5]))],
            {"tuning_trials": 2},
            "cannot be made with.*beta_1 1.5",
        ),
        (
            ["w"],
            [Contender("adam", extra_hyperparameter=("epsilom", [0.1]))],
            {},
            "cannot be made with.*epsilom",
        ),
    ],
)
def test_bad_studies(workloads, contenders, protocol, words):
    with pytest.raises(StudyError, match=words):
        Study(
            "s",
            [workload(name=name) for name in workloads],
            contenders,
            Protocol(**protocol),
        )


def test_the_reference_is_added_once():
    study = Study("s", [workload()], ["adam"])
    assert [each.label for each in study.contenders] == ["keras/sgd-momentum", "adam"]
    assert study.reference == "keras/sgd-momentum"
    reference = Contender("adam")
    again = Study("s", [workload()], [reference, "sgd"], Protocol(reference=reference))
    assert [each.label for each in again.contenders] == ["adam", "sgd"]
