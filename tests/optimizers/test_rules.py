"""What a rule may do, on every backend."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_adaptive.optimizers import AdaptiveOptimizer, Slot


class Swap(AdaptiveOptimizer):
    slots = {"one": Slot(1.0), "two": Slot(2.0)}

    def rule(self, gradient, state, hyper):
        return gradient, {"one": state["two"], "two": state["one"]}


@pytest.mark.parametrize("shape", [(3,), (256, 256)], ids=["small", "large"])
def test_slots_may_change_places(shape):
    variable = keras.Variable(np.zeros(shape), dtype="float32")
    optimizer = Swap(0.1)
    optimizer.build([variable])
    for want in [(2, 1), (1, 2)]:
        optimizer.apply([ops.ones(shape)], [variable])
        got = [
            ops.convert_to_numpy(optimizer._engine.states[0].slots[n])
            for n in ("one", "two")
        ]
        assert [np.unique(slot).tolist() for slot in got] == [[want[0]], [want[1]]]
