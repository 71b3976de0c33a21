"""MLflow's autologging does not see the runs of a study."""

from dataclasses import replace

import keras
import mlflow
import numpy as np
import pytest
from mlflow.utils import autologging_utils

from keras_adaptive.study import Contender, Epochs, Protocol, Study

BACKEND = keras.backend.backend()
FLAVOR = {"tensorflow": "tensorflow", "jax": "keras", "torch": "keras"}[BACKEND]


def fit_a_regression():
    """Fits a model of scikit-learn, which autologging would record."""
    from sklearn.linear_model import LinearRegression

    LinearRegression().fit(np.eye(3), np.arange(3.0))


def dense_model(seed):
    fit_a_regression()
    glorot = keras.initializers.GlorotUniform(seed=seed)
    dense = keras.layers.Dense(2, kernel_initializer=glorot)
    return keras.Sequential([keras.Input((40,)), dense])


def broken_model(seed):
    raise RuntimeError("broken")


def turns_it_on(seed):
    getattr(mlflow, FLAVOR).autolog()
    return dense_model(seed)


@pytest.fixture
def autologging():
    """Turns autologging on for the backend's flavor and for scikit-learn."""
    flavors = [getattr(mlflow, FLAVOR), mlflow.sklearn]
    for each in flavors:
        each.autolog(silent=True)
    yield
    for each in flavors:
        each.autolog(disable=True, silent=True)
    mlflow.end_run()


@pytest.mark.parametrize("build", [dense_model, turns_it_on])
def test_a_study_has_only_its_own_runs(store, autologging, workload, dense, build):
    _, client = store
    workload = replace(workload, data=dense, build=build, budget=Epochs(1))
    protocol = Protocol(seeds=2, reference="keras/sgd")
    study = Study("s", [workload], [Contender("keras/sgd", [0.1])], protocol)
    assert list(study.run().runs["status"]) == ["finished"] * 2
    experiments = [each.experiment_id for each in client.search_experiments()]
    assert len(client.search_runs(experiments)) == 3

    with pytest.raises(Exception, match="broken"):
        replace(study, workloads=[replace(workload, build=broken_model)]).run()
    assert not autologging_utils._AUTOLOGGING_GLOBALLY_DISABLED
    fit_a_regression()
    assert len(client.search_runs(experiments)) == 4
