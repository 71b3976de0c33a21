import math
import random
from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_adaptive.datasets.batches import epoch_order, evaluation_batches
from keras_adaptive.datasets.dataset import Dataset, Split
from keras_adaptive.study import Contender, Epochs, Steps
from keras_adaptive.study.execution import curve, training
from keras_adaptive.study.execution.training import attempt, seeded


@pytest.fixture
def fed(monkeypatch):
    """The first training batches of each run, as they are fed."""
    fed = []
    original = training.training_batches

    def watched(*args):
        batches = original(*args)
        first = [x.indices.numpy().tolist() for x, _ in batches.take(8)]
        fed.append(first)
        return batches

    monkeypatch.setattr(training, "training_batches", watched)
    return fed


def test_contenders_are_paired_by_seed(workload, build_model, fed, run_trial):
    started = []

    def watched(seed):
        model = build_model(seed)
        started.append([weight.copy() for weight in model.get_weights()])
        return model

    workload = replace(workload, build=watched)

    def run(optimizer, seed):
        keras.utils.set_random_seed(len(started))
        return run_trial(workload, Contender(optimizer, [1e-12]), seed=seed)

    results = [run("keras/sgd", 5), run("keras/adam", 5), run("keras/adam", 6)]
    assert fed[0] == fed[1] != fed[2]
    kernels = [weights[0] for weights in started]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[1] != kernels[2]).any()
    losses = [[loss for _, loss in each.series("train_loss")] for each in results]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert not np.allclose(losses[1], losses[2], rtol=1e-3)


def test_a_seed_decides_what_the_builder_leaves_open():
    def weights(seed):
        with seeded(seed):
            layer = keras.layers.Dense(3)
            layer.build((None, 4))
            return layer.kernel.numpy(), keras.layers.Dropout(0.5).seed_generator.state

    random.seed(1)
    before = random.getstate()
    (one, mask), (same, same_mask), (other, _) = weights(1), weights(1), weights(2)
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(mask, same_mask)
    assert (one != other).any()
    assert random.getstate() == before


@pytest.mark.parametrize("budget", [Epochs(3), Steps(10, every=3), Steps(9)])
def test_fit_sees_the_batches_in_order_and_losses_are_true(
    tiny, workload, build_model, make_sgd, run_trial, budget
):
    result = run_trial(workload, make_sgd(1e-12), budget=budget)
    model = build_model(0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = []
    for epoch in range(3):
        order = epoch_order(60, 0, epoch)
        for start in range(0, 60, 16):
            rows = order[start : start + 16]
            logits = model(tiny.train.x[rows].toarray())
            expected.append(float(loss(tiny.train.y[rows], logits)))
    losses = [value for _, value in result.series("train_loss")]
    steps = budget.steps(60, 16)
    np.testing.assert_allclose(losses, expected[:steps], rtol=1e-4)


@pytest.mark.parametrize(
    ("budget", "evaluated", "epochs"),
    [
        (Epochs(3), [4, 8, 12], [1, 2, 3]),
        (Steps(10, every=3), [3, 6, 9, 10], [0.75, 1.5, 2.25, 2.5]),
        (Steps(7, every=100), [7], [1.75]),
    ],
)
def test_when_a_run_is_evaluated(
    workload, make_sgd, run_trial, budget, evaluated, epochs
):
    result = run_trial(workload, make_sgd(1.0), budget=budget)
    assert [point.step for point, _ in result.series("val_accuracy")] == evaluated
    assert [value for _, value in result.series("epoch")] == epochs
    steps = [point.step for point, _ in result.series("train_loss")]
    assert steps == list(range(1, evaluated[-1] + 1))


def test_curve_numbers_and_times(workload, tiny, make_sgd, run_trial):
    sliced = replace(workload, slices=lambda data: {"class a": data.test.y == 0})
    result = run_trial(sliced, make_sgd(1.0))
    assert (result.status, result.reason) == ("finished", "")
    assert result.series("val_accuracy")[-1][1] > 0.9
    assert result.numbers["final_val_accuracy"] == result.series("val_accuracy")[-1][1]
    seconds = [point.seconds for point in result.curve]
    assert seconds == sorted(seconds)
    assert len({point.step for point in result.curve}) == len(result.curve)
    numbers = result.numbers
    assert 0 < numbers["step_seconds"] < numbers["first_round_seconds"]
    assert numbers["test_accuracy"] > 0.9
    assert numbers["final_train_accuracy"] > 0.9
    assert numbers["initial_val_loss"] > numbers["final_val_loss"]
    assert "test_accuracy.class a" in numbers
    assert {rate for _, rate in result.series("learning_rate")} == {1.0}
    assert result.score == (numbers["final_val_accuracy"], -numbers["final_val_loss"])


def test_slices_are_judged_by_their_rows(
    workload, tiny, build_model, make_sgd, run_trial
):
    masks = {"some": np.arange(30) % 3 == 0}
    sliced = replace(workload, slices=lambda data: masks)
    result = run_trial(sliced, make_sgd(1e-12))
    logits = build_model(0)(tiny.test.x[masks["some"]].toarray()).numpy()
    right = logits.argmax(axis=1) == tiny.test.y[masks["some"]]
    assert result.numbers["test_accuracy.some"] == pytest.approx(right.mean())


def test_the_best_is_that_of_the_direction(workload, make_sgd, run_trial):
    by_loss = replace(workload, metric="loss", direction=None)
    assert by_loss.direction == "min"
    result = run_trial(by_loss, make_sgd(1.0))
    losses = [value for _, value in result.series("val_loss")]
    assert result.numbers["best_val_loss"] == min(losses)
    assert result.score == (-losses[-1], -losses[-1])


def test_rows_with_nothing_in_them_can_be_trained_on(
    workload, tiny, make_sgd, run_trial
):
    nothing = Split(tiny.train.x * 0, tiny.train.y)
    nothing.x.eliminate_zeros()
    empty = Dataset("e", "e", nothing, nothing, nothing)
    result = run_trial(replace(workload, data=empty), make_sgd(0.1))
    assert result.status == "finished"


def test_losses_are_means_since_the_point_before(
    workload, make_sgd, run_trial, monkeypatch
):
    fine = run_trial(workload, make_sgd(1e-12)).series("train_loss")
    monkeypatch.setattr(curve, "POINTS_PER_EVALUATION", 2)
    coarse = run_trial(workload, make_sgd(1e-12)).series("train_loss")
    assert [point.step for point, _ in coarse] == [2, 4, 6, 8, 10, 12]
    one, two, three, last = (value for _, value in fine[:4])
    np.testing.assert_allclose(coarse[0][1], (one + two) / 2, rtol=1e-5)
    np.testing.assert_allclose(coarse[1][1], (16 * three + 12 * last) / 28, rtol=1e-5)


def test_several_steps_a_call_change_nothing_else(
    workload, make_sgd, run_trial, monkeypatch
):
    calls = []
    original = training.Recorder.on_train_batch_end

    def watched(recorder, batch, logs=None):
        calls.append(batch)
        original(recorder, batch, logs)

    monkeypatch.setattr(training.Recorder, "on_train_batch_end", watched)

    def curve():
        calls.clear()
        run = run_trial(workload, make_sgd(0.5), budget=Steps(50, every=20))
        assert run.status == "finished"
        return [(point.step, point.metrics) for point in run.curve]

    several = curve()
    assert calls == [*range(1, 20, 2), *range(1, 20, 2), *range(1, 10, 2)]
    monkeypatch.setattr(training, "steps_per_execution", lambda steps, every: 1)
    single = curve()
    assert len(calls) == 50
    assert [step for step, _ in several] == [step for step, _ in single]
    for (_, got), (_, expected) in zip(several, single, strict=True):
        assert got == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("steps", "every", "expected"),
    [(2000, 500, 50), (2000, 300, 25), (370, 37, 1), (9, 9, 1), (50, 20, 2)],
)
def test_a_call_makes_no_step_too_many(steps, every, expected):
    assert training.steps_per_execution(steps, every) == expected


def test_one_evaluation_has_no_time_per_step(workload, make_sgd, run_trial):
    result = run_trial(workload, make_sgd(0.1), budget=Epochs(1))
    assert math.isnan(result.numbers["step_seconds"])


def test_divergence_is_recorded_and_ends_the_run(workload, make_sgd, run_trial):
    result = run_trial(workload, make_sgd(1e38))
    assert result.status == "diverged"
    last = result.curve[-1].step
    assert last < 12
    assert result.reason == f"not finite at step {last}"
    assert "test_accuracy" not in result.numbers
    assert result.score == (-math.inf, -math.inf)


def test_an_exception_becomes_a_failed_run(workload, tiny, make_sgd, trial_of):
    def broken(seed):
        raise OSError("no such layer")

    trial = trial_of(replace(workload, build=broken), make_sgd(0.1))
    result = attempt(trial, tiny)
    assert result.status == "failed"
    assert result.reason.startswith("OSError: no such layer (")
    assert f"{__file__}:" in result.reason
    assert result.score == (-math.inf, -math.inf)


def test_schedules_show_their_current_rate(workload, run_trial):
    def make(rate):
        return keras.optimizers.SGD(
            keras.optimizers.schedules.ExponentialDecay(rate, 1, 0.5)
        )

    result = run_trial(workload, Contender(make, [1.0]))
    rates = [rate for _, rate in result.series("learning_rate")]
    assert rates[0] > rates[5] > rates[-1]


def test_the_model_is_judged_at_the_end_of_training(workload, tiny, run_trial):
    models = []

    def kept(seed):
        models.append(workload.build(seed))
        return models[-1]

    contender = Contender("adam", [0.1])
    result = run_trial(replace(workload, build=kept), contender)
    for part, split in (("final_train", tiny.train), ("test", tiny.test)):
        judged = models[0].evaluate(evaluation_batches(split), verbose=0)
        assert result.numbers[f"{part}_loss"] == pytest.approx(judged[0])
        assert result.numbers[f"{part}_accuracy"] == pytest.approx(judged[1])
