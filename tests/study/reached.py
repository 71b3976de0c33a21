"""Objects that reach a value in every way, for `test_reach.py`.

Run as a script, it prints their digests as JSON: they must be equal in every process.
"""

import functools
import json
import sys
import threading
import types
from dataclasses import dataclass

import keras
import numpy as np

from keras_adaptive.study.execution.training import seeded
from keras_adaptive.study.ledger.reach.graph import describe

ONCE = threading.Lock()


def module(name, text, **values):
    """Returns a module with this text, as if it had been read from a file."""
    made = types.ModuleType(name)
    vars(made).update(values)
    sys.modules[name] = made
    exec(compile(text, f"/{name}.py", "exec"), vars(made))
    return made


def closure(value):
    return lambda y, p: value * (y - p)


def default(value):
    def loss(y, p, scale=value):
        return scale * (y - p)

    return loss


def keyword_default(value):
    def loss(y, p, *, scale=value):
        return scale * (y - p)

    return loss


def global_constant(value):
    return module("constants", "def f(x): return SCALE * x", SCALE=value).f


def global_function(value):
    text = f"def inner(x): return x * {value}\ndef f(x): return inner(x)"
    return module("functions", text).f


def helper_s_global(value):
    module("helper", "def scaled(x): return x * SCALE", SCALE=value)
    return module("uses", "import helper\ndef f(x): return helper.scaled(x)").f


def helper_imported_inside(value):
    module("inside", "def scaled(x): return x * SCALE", SCALE=value)
    text = "def f(x):\n    from inside import scaled\n    return scaled(x)"
    return module("imports", text).f


def helper_handed_on(value):
    module("handed", "", SCALE=value)
    return module("hands", "import handed\ndef f(x): return getattr(handed, x)").f


def global_of_nested_function(value):
    text = "def f(x):\n    return [(lambda: SCALE * each)() for each in x]"
    return module("nested", text, SCALE=value).f


def lambda_s_constant(value):
    return eval(f"lambda x: x * {value}")


def class_attribute(value):
    class Rate:
        scale = value

        def __call__(self, step):
            return self.scale * step

    return Rate()


def inherited_attribute(value):
    class Base:
        scale = value

    class Rate(Base):
        pass

    return Rate()


def property_s_constant(value):
    class Rate:
        scale = property(lambda_s_constant(value))

    return Rate()


class Holder:
    """Holds a value, a circle and a lock."""

    def __init__(self, value):
        self.value, self.itself, self.lock = value, self, ONCE

    def scaled(self, x):
        return self.value * x


class Slotted:
    """Holds a value in a slot."""

    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


@dataclass(frozen=True)
class Data:
    """Holds a value in a field."""

    value: float = 0.0


def instance_attribute(value):
    return Holder(value)


def partial(value):
    return functools.partial(closure(1), scale=value)


def bound_method(value):
    return Holder(value).scaled


def slot(value):
    return Slotted(value)


def field(value):
    return Data(value)


def function_attribute(value):
    def f(x):
        return f.scale * x

    f.scale = value
    return f


def decorated(value):
    @functools.lru_cache
    def f(x):
        return value * x

    return f


def array_in_closure(value):
    return closure(np.full((2, 3), value))


def tensor_in_closure(value):
    return closure(keras.ops.full((2, 3), value))


def mixed_keys(value):
    return {1: value, "a": {2, 3}, (4, "b"): [value]}


def set_element(value):
    return {"a", "b", ("c", value)}


def long_list(value):
    return [*range(1000), value]


def mutual(value):
    text = f"def f(n): return g(n - 1)\ndef g(n): return f(n - 1) + {value}"
    return module("mutual", text).f


def metric(value):
    return lambda: keras.metrics.SparseTopKCategoricalAccuracy(value)


def metric_object(value):
    return keras.metrics.SparseTopKCategoricalAccuracy(value)


def loss_object(value):
    return keras.losses.Huber(value)


def loss_around_a_function(value):
    class Wrapper(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return value * (y_true - y_pred)

    return Wrapper()


class Scaled(keras.layers.Layer):
    """A layer with an attribute that its configuration leaves out."""

    def __init__(self, scale):
        super().__init__()
        self._scale = scale

    def call(self, x):
        return self._scale * x


def sequential(*layers):
    with seeded(0):
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), *layers])


def layer_s_attribute(value):
    return sequential(Scaled(value))


def layer_s_global(value):
    text = """
import keras
class Reads(keras.layers.Layer):
    def call(self, x):
        return SCALE * x
"""
    return sequential(module("reads", text, SCALE=value).Reads())


def lambda_layer(value):
    return sequential(keras.layers.Lambda(closure(value)))


def activation(value):
    return sequential(keras.layers.Activation(lambda x: value * x))


def added_attribute(value):
    model = sequential()
    model.layers[0].scale = value
    return model


def initial_weights(value):
    model = sequential()
    model.set_weights([value * each for each in model.get_weights()])
    return model


def frozen(value):
    model = sequential()
    model.layers[0].trainable = value > 1
    return model


def bins(value):
    return keras.layers.Discretization([0.0, value])


def schedule_s_class_attribute(value):
    class Halving(keras.optimizers.schedules.LearningRateSchedule):
        first = value

        def __call__(self, step):
            return self.first / (1 + step)

        def get_config(self):
            return {}

    return keras.optimizers.SGD(Halving())


WAYS = [
    *(closure, default, keyword_default, global_constant, global_function),
    *(helper_s_global, helper_imported_inside, helper_handed_on),
    *(global_of_nested_function, lambda_s_constant, class_attribute),
    *(inherited_attribute, property_s_constant, instance_attribute, partial),
    *(bound_method, slot, field, function_attribute, decorated, array_in_closure),
    *(tensor_in_closure, mixed_keys, set_element, long_list, mutual, metric),
    *(metric_object, loss_object, loss_around_a_function, layer_s_attribute),
    *(layer_s_global, lambda_layer, activation, added_attribute, initial_weights),
    *(frozen, bins, schedule_s_class_attribute),
]


def digests():
    """Returns the digest of every way to reach the value 1, by its name."""
    return {way.__name__: describe(way(1)) for way in WAYS}


if __name__ == "__main__":
    print(json.dumps(digests()))
