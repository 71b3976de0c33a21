"""What is refused before any training."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_adaptive.study import Epochs, StudyError
from keras_adaptive.study.execution.prepared_workload import PreparedWorkload
from keras_adaptive.study.execution.training import seeded
from keras_adaptive.study.ledger.fingerprint import digest
from keras_adaptive.study.ledger.reach.graph import describe


def compiled(model):
    model.compile("sgd", "mse")
    return model


def dense_model(units, seed=0, inputs=40):
    glorot = keras.initializers.GlorotUniform(seed=seed)
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            keras.layers.Dense(units, kernel_initializer=glorot),
        ]
    )


class Counter:
    """Gives every model it builds other weights."""

    seeds = 0

    def __call__(self, seed):
        Counter.seeds += 1
        return dense_model(2, Counter.seeds)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"build": lambda seed: 1 / 0}, "build.seed=0. raises ZeroDivisionError"),
        ({"build": lambda seed: "model"}, "returns 'model'. Expected a keras.Model"),
        ({"build": lambda seed: compiled(dense_model(2))}, "model that is compiled"),
        ({"build": lambda seed: dense_model(2, inputs=7)}, "do not go together"),
        ({"build": lambda seed: dense_model(1)}, "do not go together"),
        ({"build": Counter()}, "other initial weights in '.*kernel'"),
        ({"budget": None}, "no budget"),
        ({"data": lambda: ([1], [2])}, "Expected a keras_adaptive.study.Dataset"),
        ({"slices": lambda d: {"a/b": d.test.y == 0}}, "called 'a/b'"),
        ({"slices": lambda d: {"a": d.test.y}}, "'a' is not a mask"),
        ({"slices": lambda d: {"a": d.test.y > 9}}, "'a' is not a mask"),
        ({"slices": lambda d: {"a": d.train.y == 0}}, "over the 30 test rows"),
        ({"metric": lambda: keras.metrics.R2Score(name="r2")}, "do not go together"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_bad_workloads(workload, dense, change, words):
    workload = replace(workload, data=dense, build=dense_net, **{})
    with pytest.raises(StudyError, match=words):
        PreparedWorkload.prepare(replace(workload, **change), None)


def dense_net(seed):
    return dense_model(2, seed)


def test_a_loss_that_is_not_finite_is_refused(workload, dense):
    def huge(seed):
        model = dense_net(seed)
        model.set_weights([np.full((40, 2), np.inf), np.zeros(2)])
        return model

    with pytest.raises(StudyError, match="before training, the loss of .* is nan"):
        PreparedWorkload.prepare(replace(workload, data=dense, build=huge), None)


def test_the_budget_of_the_protocol_comes_first(workload):
    task = PreparedWorkload.prepare(workload, Epochs(2))
    assert task.steps == 8
    assert PreparedWorkload.prepare(workload, None).steps == 12


def test_data_may_come_from_a_function(workload, tiny):
    loaded = PreparedWorkload.prepare(replace(workload, data=lambda: tiny), None)
    assert loaded.data is tiny
    assert loaded.description == PreparedWorkload.prepare(workload, None).description


class Doubled(keras.layers.Layer):
    def call(self, x):
        return 2 * x


class Tripled(keras.layers.Layer):
    def call(self, x):
        return 3 * x


class Subclassed(keras.Model):
    def __init__(self, units, last):
        super().__init__()
        self.hidden, self.last = keras.layers.Dense(units), last

    def call(self, x):
        return self.last(self.hidden(x))


def test_descriptions_tell_models_apart_and_only_them():
    def with_layer(layer, **options):
        with seeded(0):
            return keras.Sequential(
                [keras.Input((4,)), keras.layers.Dense(2, **options), layer]
            )

    def subclassed(last):
        with seeded(0):
            return Subclassed(3, last(2) if last is keras.layers.Dense else last())

    models = [
        with_layer(Doubled()),
        with_layer(Tripled()),
        with_layer(Doubled(), activation="relu"),
        with_layer(Doubled(), dtype="float64"),
        subclassed(keras.layers.Dense),
        subclassed(Doubled),
    ]
    digests = [digest(describe(model)) for model in models]
    assert len(set(digests)) == len(models)
    assert digest(describe(with_layer(Doubled()))) == digests[0]
    assert digest(describe(subclassed(keras.layers.Dense))) == digests[4]


def test_descriptions_of_optimizers_and_losses():
    things = [
        keras.optimizers.SGD(0.1),
        keras.optimizers.SGD(0.2),
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)),
        keras.losses.SparseCategoricalCrossentropy(),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "mse",
        lambda y, p: y - p,
        lambda y, p: p - y,
        None,
    ]
    digests = [digest(describe(thing)) for thing in things]
    assert len(set(digests)) == len(things)
    assert digest(describe(keras.optimizers.SGD(0.1, name="other"))) == digests[0]


def test_a_function_without_source_is_known_by_its_code():
    spaces = [{}, {}, {}]
    for space, text in zip(spaces, ("x + 1", "x + 1", "x + 2"), strict=True):
        exec(f"def f(x):\n    return (lambda y: y)({text})", space)
    one, same, other = (describe(space["f"]) for space in spaces)
    assert one == same != other
