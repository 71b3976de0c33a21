import keras
import pytest

from keras_adaptive.study import Contender, Epochs, Workload
from keras_adaptive.study.execution.training import seeded, train
from keras_adaptive.study.execution.trial import Trial


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Tests look at what a study tells, which must not depend on the machine."""
    silence = "keras_adaptive.study.ledger.waiting.LONGEST_SILENCE"
    monkeypatch.setattr(silence, 1e6)


def small_model(seed, sparse=True):
    words = keras.Input(shape=(40,), sparse=sparse)
    glorot = keras.initializers.GlorotUniform(seed=seed)
    return keras.Model(words, keras.layers.Dense(2, kernel_initializer=glorot)(words))


@pytest.fixture(scope="session")
def build_model():
    return small_model


@pytest.fixture
def workload(tiny):
    return Workload(
        "tiny",
        small_model,
        tiny,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch_size=16,
        budget=Epochs(3),
    )


def sgd(rate, label="keras/sgd"):
    return Contender("keras/sgd", [rate], label=label)


@pytest.fixture(scope="session")
def make_sgd():
    return sgd


@pytest.fixture(scope="session")
def trial_of():
    """Makes a trial of a fixed contender."""

    def make(workload, contender, seed=0, key="k", budget=None):
        setting = contender.grid(1)[0]
        budget = budget or workload.budget
        params = {"data": "tiny", "data_digest": "d", "data_source": "made for tests"}
        return Trial(key, workload, budget, contender, setting, "compare", seed, params)

    return make


@pytest.fixture(scope="session")
def run_trial(trial_of):
    """Trains a fixed contender on a workload, with all its data."""

    def run(workload, contender, seed=0, **options):
        with seeded(seed):
            return train(trial_of(workload, contender, seed, **options), workload.data)

    return run
