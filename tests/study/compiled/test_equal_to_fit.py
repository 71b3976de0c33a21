"""Compiled runs have the curves of runs by `fit` on JAX, to rounding.

Both take float32; sums over a batch may be taken in another order. Over the few steps
here the difference stays below a ten-thousandth. A loss on the curve is a difference of
two sums, so it also has an absolute error.
"""

from dataclasses import replace

import keras
import numpy as np
import pytest

import keras_adaptive
from keras_adaptive.study import (
    Contender,
    Dataset,
    Epochs,
    Setting,
    Split,
    Steps,
    Workload,
)
from keras_adaptive.study.design.contender import optimizer_names
from keras_adaptive.study.execution import curve as curves
from keras_adaptive.study.execution.compiled import packs as packs_module
from keras_adaptive.study.execution.compiled.packs import Packs
from keras_adaptive.study.execution.compiled.tracing import traced
from keras_adaptive.study.execution.training import attempt
from keras_adaptive.study.execution.trial import Trial

pytestmark = pytest.mark.jax

layers, optimizers = keras.layers, keras.optimizers
FREE = 10**9
THREE = Epochs(3)


def rows(count, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 6)).astype("float32")
    return Split(x, (x[:, 0] + 0.3 * rng.normal(size=count) > 0).astype("int64"))


@pytest.fixture(scope="module")
def data():
    return Dataset("made up", "made up", rows(83, 0), rows(600, 1), rows(30, 2))


def model_with(*middle):
    def build(seed):
        first = keras.initializers.GlorotUniform(seed)
        last = keras.initializers.GlorotUniform(seed + 100)
        return keras.Sequential(
            [
                keras.Input((6,)),
                layers.Dense(8, "tanh", kernel_initializer=first),
                *(make(seed) for make in middle),
                layers.Dense(2, kernel_initializer=last),
            ]
        )

    return build


plain = model_with()


def workload_of(build, data, budget=THREE):
    return Workload(
        "made up",
        build,
        data,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch_size=16,
        budget=budget,
        slices=lambda data: {"positive": data.test.x[:, 1] > 0},
    )


def trial_of(workload, contender, rate=0.01, seed=0):
    key = f"{contender.label} {rate} {seed}"
    setting = Setting(rate)
    program = contender.label
    return Trial(
        key, workload, workload.budget, contender, setting, "compare", seed, {}, program
    )


def assert_equal(records, trials, data, rtol=1e-4):
    assert [each.key for each in records] == [each.key for each in trials]
    for record, trial in zip(records, trials, strict=True):
        by_fit = attempt(trial, data)
        assert (record.status, record.reason) == (by_fit.status, by_fit.reason)
        times = ("first_round_seconds", "step_seconds")
        assert record.numbers.keys() == by_fit.numbers.keys() - set(times)
        for name, value in record.numbers.items():
            assert value == pytest.approx(by_fit.numbers[name], rel=rtol), name
        assert len(record.curve) == len(by_fit.curve)
        for point, other in zip(record.curve, by_fit.curve, strict=True):
            assert point.step == other.step
            if record.status == "finished":
                assert point.metrics == pytest.approx(other.metrics, rel=rtol, abs=1e-5)


@pytest.mark.parametrize(
    "middle",
    [
        [],
        [lambda seed: layers.Dropout(0.3, seed=seed)],
        [lambda seed: layers.Dropout(0.3)],
        [lambda seed: layers.BatchNormalization()],
        [lambda seed: layers.Reshape((4, 2)), lambda seed: layers.LSTM(3, seed=seed)],
    ],
    ids=["plain", "dropout", "unseeded dropout", "batch normalization", "recurrent"],
)
def test_models(data, middle):
    workload = workload_of(model_with(*middle), data)
    contender = Contender("adam", [0.01])
    trials = [
        trial_of(workload, contender, rate, seed)
        for rate in (0.01, 0.1)
        for seed in (0, 7)
    ]
    records = Packs(data).attempt(trials)
    assert_equal([records[0], records[-1]], [trials[0], trials[-1]], data)


KINDS = (
    *("adam", "sgd", "adagrad", "rmsprop", "lion", "adafactor", "muon", "shampoo"),
    *("prodigy", "dog", "dadaptadam", "schedulefreeadamw", "keras/adam", "keras/muon"),
)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(KINDS) & set(optimizer_names())))
def test_optimizers(data, name):
    workload = workload_of(plain, data, Epochs(2))
    contender = Contender(name, [0.003, 0.03])
    trials = [trial_of(workload, contender, rate, 1) for rate in (0.003, 0.03)]
    packs = Packs(data)
    assert traced(packs, trials, FREE).reason == ""
    assert_equal(packs.attempt(trials)[1:], trials[1:], data, rtol=1e-3)


def cosine(rate, **options):
    return optimizers.Adam(optimizers.schedules.CosineDecay(rate, 10), **options)


WRAPPED = {
    "schedule": cosine,
    "moving average": lambda rate: keras_adaptive.optimizers.SGD(rate, use_ema=True),
    "keras's average": lambda rate: optimizers.SGD(rate, use_ema=True),
    "accumulation": lambda rate: cosine(rate, gradient_accumulation_steps=2),
    "clipping": lambda rate: cosine(rate, global_clipnorm=0.1),
    "lookahead": lambda rate: keras_adaptive.optimizers.Lookahead(
        cosine(rate), sync_period=2
    ),
    "schedule-free": keras_adaptive.optimizers.ScheduleFreeAdamW,
    "loss scale": lambda rate: optimizers.LossScaleOptimizer(optimizers.Adam(rate)),
}


@pytest.mark.parametrize("make", WRAPPED.values(), ids=WRAPPED)
def test_options(data, make):
    workload = workload_of(plain, data, Steps(14, every=5))
    contender = Contender(make, [0.01, 0.1], label="optimizer")
    trials = [trial_of(workload, contender, rate, 0) for rate in (0.01, 0.1)]
    packs = Packs(data)
    assert_equal(packs.attempt(trials)[1:], trials[1:], data)
    assert len(packs._programs) == 1


def test_a_run_that_diverges_disturbs_no_other(data):
    workload = workload_of(plain, data)
    contender = Contender(lambda rate: optimizers.SGD(rate), [0.1], label="sgd")
    trials = [trial_of(workload, contender, rate) for rate in (0.1, 1e38, 0.2)]
    records = Packs(data).attempt(trials)
    assert [each.status for each in records] == ["finished", "diverged", "finished"]
    assert_equal(records, trials, data)


def test_packs_of_any_size_are_alike(data, monkeypatch):
    workload = workload_of(plain, data)
    contender = Contender("adam", [0.01])
    trials = [trial_of(workload, contender, 0.01 * n, n % 3) for n in range(1, 11)]
    together = Packs(data).attempt(trials)
    monkeypatch.setattr(packs_module, "FEW_WEIGHTS", 0)
    alone = Packs(data).attempt(trials)
    for one, other in zip(together, alone, strict=True):
        assert one.numbers == pytest.approx(other.numbers, rel=1e-4)


def test_other_constants_are_other_programs(data):
    workload = workload_of(plain, data)
    contender = Contender("adam", [0.01], ("beta_2", (0.9, 0.999)))
    trials = [
        replace(
            trial_of(workload, contender),
            key=str(beta),
            setting=Setting(0.01, ("beta_2", beta)),
        )
        for beta in (0.9, 0.999)
    ]
    packs = Packs(data)
    assert_equal(packs.attempt(trials), trials, data)
    assert len(packs._programs) == 2


def test_epochs_smaller_than_a_batch(data):
    small = replace(data, train=data.train.take(np.arange(9)))
    workload = workload_of(plain, small, Steps(4, every=2))
    trials = [trial_of(workload, Contender("adam", [0.01]))]
    assert_equal(Packs(small).attempt(trials), trials, small)


def by_rate(rate):
    return optimizers.Adam(rate) if rate < 0.05 else optimizers.SGD(rate)


class OfConstructor(optimizers.SGD):
    def __init__(self, learning_rate, **options):
        super().__init__(learning_rate, **options)
        self.first = float(learning_rate)

    def update_step(self, gradient, variable, learning_rate):
        self.assign_sub(variable, self.first * gradient)


class Branching(optimizers.SGD):
    def update_step(self, gradient, variable, learning_rate):
        if float(keras.ops.sum(gradient)) > 0:
            super().update_step(gradient, variable, learning_rate)


CANNOT = {
    "a rate that is a constant": (OfConstructor, "another learning rate"),
    "data decide in Python": (Branching, "it raises"),
}


@pytest.mark.parametrize("make, words", CANNOT.values(), ids=CANNOT)
def test_what_cannot_be_compiled_has_a_reason(data, make, words):
    workload = workload_of(plain, data)
    contender = Contender(make, [0.01, 0.1], label="odd")
    trials = [trial_of(workload, contender, rate) for rate in (0.01, 0.1)]
    try:
        reason = traced(Packs(data), trials, FREE).reason
    except Exception as error:
        reason = f"it raises {error}"
    assert words in reason


def test_another_class_for_another_rate(data):
    workload = workload_of(plain, data)
    contender = Contender(by_rate, [0.01, 0.1], label="by rate")
    trials = [trial_of(workload, contender, rate) for rate in (0.01, 0.1)]
    packs = Packs(data)
    assert traced(packs, trials, FREE).reason == ""
    assert_equal(packs.attempt(trials), trials, data)


def test_a_memory_limit_that_no_run_fits(data):
    trials = [trial_of(workload_of(plain, data), Contender("adam", [0.01]))]
    assert "GB" in traced(Packs(data), trials, free_bytes=100).reason


def test_convolutions_stay_with_fit(data):
    middle = [lambda seed: layers.Reshape((8, 1)), lambda seed: layers.Conv1D(2, 3)]
    workload = workload_of(model_with(*middle, lambda seed: layers.Flatten()), data)
    trials = [trial_of(workload, Contender("adam", [0.01]))]
    assert "convolutions" in traced(Packs(data), trials, FREE).reason


def test_records_are_as_dense_as_by_fit(data, monkeypatch):
    monkeypatch.setattr(curves, "POINTS_PER_EVALUATION", 3)
    workload = workload_of(plain, data, Steps(20, every=8))
    trials = [trial_of(workload, Contender("adam", [0.01]))]
    assert_equal(Packs(data).attempt(trials), trials, data)
