"""Arguments of a study are numbers of any kind, and mean the same in each."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_adaptive.datasets import RareCategories
from keras_adaptive.study import Contender, Epochs, Processes, Protocol, Steps

COUNTS = [
    np.int64,
    np.uint8,
    np.array,
    lambda count: keras.ops.convert_to_tensor(count, dtype="int32"),
]
FRACTIONS = [np.float32, np.float64, np.array, keras.ops.convert_to_tensor]


@pytest.mark.parametrize("kind", COUNTS)
def test_counts_of_any_kind(workload, kind):
    def made(count):
        return (
            Epochs(count(3)),
            Steps(count(8), every=count(2)),
            Processes(count(2)),
            Protocol(count(5), count(1), count(4), widening_trials=count(0)),
            Protocol(tuning_seeds=[count(99)]).seeds_to_tune,
            Protocol(seeds=[count(0), count(1)]).evaluation_seeds,
            replace(workload, batch_size=count(16)).batch_size,
            RareCategories(rows=count(200), seed=count(1)),
        )

    assert repr(made(kind)) == repr(made(int))


@pytest.mark.parametrize("kind", FRACTIONS)
def test_fractions_of_any_kind(kind):
    """Halves and quarters are exact in every kind."""

    def made(number):
        return (
            Protocol(target=number(0.5)),
            Protocol(target={"tiny": number(0.5)}),
            Contender("adam", [number(0.25), number(0.5)]),
            Contender("adam", [0.1], ("epsilon", [number(0.5)])),
        )

    assert repr(made(kind)) == repr(made(float))


@pytest.mark.parametrize("kind", [int, np.int64, np.array])
def test_whole_numbers_are_fractions_too(kind):
    assert Contender("adam", [kind(1)]).learning_rates == (1.0,)
    assert repr(Protocol(target=kind(1))) == repr(Protocol(target=1))
