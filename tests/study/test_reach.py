"""The digest of an object covers everything that it reaches, and nothing else."""

import json
import os
import subprocess
import sys
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import reached

from keras_adaptive import optimizers
from keras_adaptive.errors import InputError
from keras_adaptive.study import Contender, Protocol, Study
from keras_adaptive.study.execution.planning import Plan
from keras_adaptive.study.execution.prepared_workload import PreparedWorkload
from keras_adaptive.study.ledger.reach.graph import describe


@pytest.mark.parametrize("way", reached.WAYS, ids=lambda way: way.__name__)
def test_a_value_counts_however_it_is_reached(way):
    before, again, changed = (describe(way(value)) for value in (1, 1, 2))
    assert before == again != changed


def test_digests_are_equal_in_another_process():
    command = [sys.executable, Path(reached.__file__)]
    environment = {**os.environ, "PYTHONHASHSEED": "4711"}
    answer = subprocess.run(command, env=environment, capture_output=True, check=True)
    here = json.loads(answer.stdout)
    assert here == reached.digests()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (OrderedDict(a=1, b=2), {"b": 2, "a": 1}),
        ({1: "a", (2,): "b"}, {(2,): "b", 1: "a"}),
        ({"a", "b", "c"}, {"c", "b", "a"}),
        ([[1], [1]], [[1]] * 2),
        (np.ones((2, 3)), np.ones((3, 2)).T),
    ],
    ids=["names", "ordered", "keys", "sets", "shared", "layout"],
)
def test_what_compares_equal_has_one_digest(one, other):
    assert describe(one) == describe(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        ("1", b"1"),
        ([1], (1,)),
        (["a", "b"], ["ab"]),
        ([["a"], "b"], ["a", ["b"]]),
        (np.float32(1), np.float64(1)),
        (np.zeros(4), np.zeros((2, 2))),
        ({"a": 1}, {"b": 1}),
        (keras.losses.mean_squared_error, keras.losses.mean_absolute_error),
        (np.exp, np.log),
        ([].append, [1].append),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_differs_has_other_digests(one, other):
    assert describe(one) != describe(other)


def test_the_place_of_code_does_not_count():
    text = "{}def f(x):{}\n    return x * SCALE\n"
    one = reached.module("here", text.format("", ""), SCALE=2).f
    other = reached.module(
        "there", text.format("# moved\n\n", "  # a comment"), SCALE=2
    ).f
    assert describe(one) == describe(other)
    layer = (
        "import keras\n{}class L(keras.layers.Layer):\n    def call(self, x): return x"
    )
    here, there = (
        reached.sequential(
            reached.module(name, layer.format(gap), base=keras.layers.Layer).L()
        )
        for name, gap in (("one", ""), ("two", "\n\n"))
    )
    assert describe(here) == describe(there)


def test_every_member_of_a_circle_counts():
    def ring(values):
        nodes = [reached.Holder(value) for value in values]
        for one, other in zip(nodes, nodes[1:] + nodes[:1], strict=True):
            one.next = other
        return nodes[0]

    digests = [describe(ring(values)) for values in ([1, 2, 3], [1, 2, 4], [1, 3, 2])]
    assert len(set(digests)) == 3
    assert describe(ring([1, 2, 3])) == digests[0]


def test_made_up_names_do_not_count():
    assert describe(reached.sequential()) == describe(reached.sequential())


@pytest.mark.parametrize("name", ["Adam", "SOAP", "ScheduleFreeSGD", "Muon"])
def test_optimizers_differ_by_their_hyperparameters(name):
    cls = getattr(optimizers, name)
    before, again, changed = (describe(cls(rate)) for rate in (0.1, 0.1, 0.2))
    assert before == again != changed


def unknown_generator():
    numbers = (n for n in [1])
    return lambda y, p: next(numbers)


def unknown_names():
    return lambda y, p: eval("SCALE") * y


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (unknown_generator, "The loss: code|numbers is a generator, whose value"),
        (unknown_names, "The loss: code calls eval, so what it uses is known only"),
        (lambda: sys.__stdout__, "The loss: it is a TextIOWrapper"),
    ],
    ids=["generator", "eval", "file"],
)
def test_what_has_no_value_is_refused_by_name(make, words):
    with pytest.raises(InputError, match=words):
        describe(make(), "The loss")


def keys(workload, optimizer="keras/sgd"):
    contender = Contender(optimizer, [0.1])
    prepared = PreparedWorkload.prepare(workload, None)
    plan = Plan(prepared, contender, Protocol(seeds=1))
    return [trial.key for trial in plan.progress({}).missing]


def scaled_model(scale):
    def build(seed):
        glorot = keras.initializers.GlorotUniform(seed=seed)
        dense = keras.layers.Dense(2, kernel_initializer=glorot)
        model = keras.Sequential([keras.Input((40,)), dense])
        model.set_weights([scale * each for each in model.get_weights()])
        return model

    return build


def files_model(path):
    """Reads from a file what neither code nor closures tell."""

    def build(seed):
        return scaled_model(float(path.read_text()))(seed)

    return build


def test_keys_follow_what_the_user_gives(workload, dense, tmp_path):
    def loss(alpha):
        inner = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return lambda y, p: alpha * inner(y, p)

    def top(k):
        metric = keras.metrics.SparseTopKCategoricalAccuracy
        return lambda: metric(k, name="top_accuracy")

    def slices(limit):
        return lambda data: {"early": np.arange(len(data.test.y)) < limit}

    base = replace(workload, data=dense, build=scaled_model(1.0))
    changes = [
        *({"loss": loss(alpha)} for alpha in (1.0, 100.0)),
        *({"metric": top(k), "direction": None} for k in (1, 2)),
        *({"slices": slices(limit)} for limit in (10, 20)),
        *({"build": scaled_model(scale)} for scale in (2.0, 3.0)),
        {},
    ]
    found = [keys(replace(base, **change)) for change in changes]
    assert len({key for (key,) in found}) == len(changes)
    assert [keys(replace(base, **change)) for change in changes] == found

    rates = [
        keys(base, lambda rate, k=k: keras.optimizers.SGD(k * rate)) for k in (1, 2)
    ]
    assert rates[0] != rates[1]

    weights = tmp_path / "weights"
    of_files = []
    for scale in ("1.0", "2.0", "1.0"):
        weights.write_text(scale)
        of_files.append(keys(replace(base, build=files_model(weights))))
    assert of_files[0] == of_files[2] != of_files[1]


def test_another_closure_s_loss_is_trained_and_reported(workload, dense, store):
    def losses(alpha):
        def loss(y, p):
            return alpha * keras.losses.sparse_categorical_crossentropy(y, p, True)

        return loss

    def initial_loss(alpha):
        changed = replace(
            workload, data=dense, build=scaled_model(1.0), loss=losses(alpha)
        )
        contender = Contender("keras/sgd", [1e-6])
        protocol = Protocol(seeds=1, reference="keras/sgd")
        runs = Study("s", [changed], [contender], protocol).run().runs
        return runs["test_loss"].item()

    once, hundredfold = initial_loss(1.0), initial_loss(100.0)
    assert hundredfold == pytest.approx(100 * once, rel=1e-3)
    assert initial_loss(1.0) == once
