"""`EvaluateAveraged`: evaluate at one point, train at the other; on every backend."""

import keras
import numpy as np
import pytest

from keras_adaptive import optimizers
from keras_adaptive.callbacks import EvaluateAveraged

pytestmark = pytest.mark.usefixtures("by_row")

BACKEND = keras.backend.backend()
RATE, BETA = 0.125, 0.75
BATCH, BATCHES, EPOCHS = 4, 4, 3

rng = np.random.default_rng(0)
INPUTS = rng.normal(size=(BATCH * BATCHES, 3)).astype("float32")
TARGETS = rng.normal(size=(BATCH * BATCHES, 1)).astype("float32")
START = rng.normal(size=(3, 1)).astype("float32")


def schedule_free(**options):
    return optimizers.ScheduleFreeSGD(RATE, BETA, **options)


def moving_average(**options):
    return optimizers.Adam(RATE, use_ema=True, ema_momentum=0.75, **options)


def loss_scale(optimizer):
    return keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=4.0)


def multi(optimizer):
    return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(optimizer))


def model_with(optimizer, jit_compile=False):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([START])
    model.compile(optimizer, "mse", jit_compile=jit_compile)
    return model


def fit(model, *callbacks, epochs=EPOCHS, **options):
    return model.fit(
        INPUTS,
        TARGETS,
        batch_size=BATCH,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        validation_data=(INPUTS, TARGETS),
        callbacks=list(callbacks),
        **options,
    ).history


def weights(model):
    return np.array(model.get_weights()[0])


class Seen(keras.callbacks.Callback):
    """The weights at the beginning and at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.begin, self.end = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.begin.append(weights(self.model))

    def on_epoch_end(self, epoch, logs=None):
        self.end.append(weights(self.model))


def loss(point):
    return np.mean((INPUTS @ point - TARGETS) ** 2)


def reference(gradient_at_x=()):
    """The points y and x after each epoch, in NumPy.

    Args:
        gradient_at_x: The steps whose gradient is taken at x.
    """
    x = y = z = START.astype("float64")
    points = []
    for step in range(EPOCHS * BATCHES):
        rows = slice(step % BATCHES * BATCH, (step % BATCHES + 1) * BATCH)
        at = x if step in gradient_at_x else y
        error = INPUTS[rows] @ at - TARGETS[rows]
        z = z - RATE * 2 * INPUTS[rows].T @ error / BATCH
        x = x + (z - x) / (step + 1)
        y = (1 - BETA) * z + BETA * x
        points.append((y, x))
    ys, xs = zip(*points[BATCHES - 1 :: BATCHES], strict=True)
    return np.array(ys), np.array(xs)


def assert_close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wrap", [lambda o: o, loss_scale, multi])
def test_schedule_free_validates_and_ends_at_x(wrap):
    model, seen = model_with(wrap(schedule_free())), Seen()
    history = fit(model, EvaluateAveraged(), seen)
    ys, xs = reference()
    assert_close(seen.end, xs)
    assert_close(seen.begin, [START, *ys[:-1]])
    assert_close(history["val_loss"], [loss(x) for x in xs])
    assert_close(model.evaluate(INPUTS, TARGETS, verbose=0), loss(xs[-1]))
    assert_close(model.predict(INPUTS, verbose=0), INPUTS @ xs[-1])


def test_without_it_fit_only_ends_at_x():
    model, seen = model_with(schedule_free()), Seen()
    history = fit(model, seen)
    ys, xs = reference()
    assert_close(seen.end, ys)
    assert_close(history["val_loss"], [loss(y) for y in ys])
    assert np.abs(ys - xs).max() > 1e-2
    assert_close(weights(model), xs[-1])


def test_a_second_fit_goes_on():
    model = model_with(schedule_free())
    fit(model, EvaluateAveraged(), epochs=1)
    fit(model, EvaluateAveraged(), epochs=EPOCHS - 1)
    assert_close(weights(model), reference()[1][-1])


@pytest.mark.parametrize("jit_compile", [False] + [True] * (BACKEND != "torch"))
def test_a_second_fit_without_it_takes_one_gradient_at_x(jit_compile):
    model = model_with(schedule_free(), jit_compile)
    fit(model, epochs=1)
    fit(model, epochs=EPOCHS - 1)
    assert_close(weights(model), reference(gradient_at_x={BATCHES})[1][-1])


@pytest.mark.parametrize("make", [schedule_free, moving_average])
def test_saved_after_fit_and_continued(make, tmp_path):
    model = model_with(make())
    fit(model, EvaluateAveraged(), epochs=1)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(weights(again), weights(model))
    for continued in (model, again):
        fit(continued, EvaluateAveraged(), epochs=2)
    np.testing.assert_array_equal(weights(again), weights(model))


@pytest.mark.parametrize("make", [schedule_free, moving_average])
def test_checkpoint_of_an_epoch(make, tmp_path):
    """It is of the evaluation point, and training goes on from the other."""
    path, seen = str(tmp_path / "{epoch}.weights.h5"), Seen()
    checkpoint = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    model = model_with(make())
    fit(model, EvaluateAveraged(), seen, checkpoint)
    again = model_with(make())
    again.load_weights(path.format(epoch=2))
    np.testing.assert_array_equal(weights(again), seen.end[1])
    fit(again, EvaluateAveraged(), initial_epoch=2)
    np.testing.assert_array_equal(weights(again), weights(model))


def test_moving_average_is_swapped_exactly():
    plain, seen = model_with(moving_average()), Seen()
    history = fit(plain, seen)
    averaged, swapped = model_with(moving_average()), Seen()
    got = fit(averaged, EvaluateAveraged(), swapped)
    np.testing.assert_array_equal(swapped.begin[1:], seen.end[:-1])
    np.testing.assert_array_equal(weights(averaged), weights(plain))
    assert got["loss"] == history["loss"]
    assert_close(got["val_loss"], [loss(w) for w in swapped.end])
    np.testing.assert_array_equal(swapped.end[-1], weights(plain))
    assert np.abs(np.subtract(swapped.end, seen.end)).max() > 1e-2


@pytest.mark.parametrize("make", [schedule_free, moving_average])
def test_evaluate_and_predict_between_steps(make):
    model = model_with(make())
    for _ in range(3):
        model.train_on_batch(INPUTS, TARGETS)
    before = weights(model)
    options = {"callbacks": [EvaluateAveraged()], "verbose": 0}
    evaluated = model.evaluate(INPUTS, TARGETS, **options)
    predicted = model.predict(INPUTS, **options)
    np.testing.assert_allclose(weights(model), before, rtol=1e-6, atol=1e-6)
    assert not model.optimizer.evaluating
    model.optimizer.to_evaluation()
    assert model.optimizer.evaluating
    point = weights(model)
    assert np.abs(point - before).max() > 1e-3
    assert_close(evaluated, loss(point))
    assert_close(predicted, INPUTS @ point)
    # There it stays, if that is where it was.
    model.evaluate(INPUTS, TARGETS, **options)
    np.testing.assert_array_equal(weights(model), point)


def test_leaves_other_optimizers_alone():
    plain, model = model_with("sgd"), model_with("sgd")
    assert fit(model, EvaluateAveraged()) == fit(plain)
    model.evaluate(INPUTS, TARGETS, callbacks=[EvaluateAveraged()], verbose=0)


@pytest.mark.parametrize("make", [schedule_free, moving_average, optimizers.Adam])
def test_before_any_step(make):
    model = model_with(make())
    model.evaluate(INPUTS, TARGETS, callbacks=[EvaluateAveraged()], verbose=0)
    np.testing.assert_array_equal(weights(model), START)


# Deferred rows.

HEIGHT = 40


def fit_rows(optimizer, *callbacks):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,), dtype="int32")])
    model.add(keras.layers.Embedding(HEIGHT, 2))
    # The loss is linear, so gradients do not depend on the weights.
    model.compile(optimizer, loss=lambda y, x: x * y, jit_compile=False)
    x = np.arange(32).reshape(16, 2)
    y = np.random.default_rng(0).normal(size=(16, 2, 2))
    data = {"batch_size": BATCH, "epochs": EPOCHS, "shuffle": False, "verbose": 0}
    history = model.fit(x, y, validation_data=(x, y), callbacks=list(callbacks), **data)
    return weights(model), history.history["val_loss"]


def decaying(sparse):
    # Rows do nothing but decay, so all that can differ is when they do.
    return optimizers.Adagrad(0.1, weight_decay=0.3, sparse=sparse)


def decaying_and_averaged(sparse):
    return optimizers.Adagrad(0.1, weight_decay=0.3, use_ema=True, sparse=sparse)


def schedule_free_adam(sparse):
    return optimizers.ScheduleFreeAdamW(0.1, warmup_steps=3, sparse=sparse)


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("make", "wrap"),
    [
        (decaying, lambda o: o),
        (decaying, loss_scale),
        (decaying, multi),
        (decaying_and_averaged, lambda o: o),
        (schedule_free_adam, lambda o: o),
    ],
)
def test_rows_are_up_to_date_where_it_evaluates(make, wrap):
    deferred, dense, stale = Seen(), Seen(), Seen()
    got, got_losses = fit_rows(wrap(make("deferred")), EvaluateAveraged(), deferred)
    want, want_losses = fit_rows(wrap(make("dense")), EvaluateAveraged(), dense)
    without, _ = fit_rows(wrap(make("deferred")), stale)
    np.testing.assert_allclose(deferred.end, dense.end, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got_losses, want_losses, rtol=1e-4, atol=1e-6)
    # Without it they are not, and the end of training is the same.
    assert np.abs(np.subtract(stale.end, dense.end)).max() > 1e-3
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got, without, rtol=1e-5, atol=1e-6)
