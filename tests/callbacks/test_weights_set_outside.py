"""Weights that somebody sets between two fits are where training goes on."""

import keras
import numpy as np
import pytest

from keras_adaptive import optimizers
from keras_adaptive.callbacks import EvaluateAveraged

rng = np.random.default_rng(0)
INPUTS = rng.normal(size=(16, 3)).astype("float32")
TARGETS = rng.normal(size=(16, 1)).astype("float32")
BEST = rng.normal(size=(3, 1)).astype("float32")

MADE = {
    "schedule-free": lambda: optimizers.ScheduleFreeSGD(0.1),
    "schedule-free AdamW": lambda: optimizers.ScheduleFreeAdamW(0.1),
    "EMA": lambda: optimizers.Adam(0.1, use_ema=True, ema_momentum=0.75),
    "Lookahead": lambda: optimizers.Lookahead(optimizers.SGD(0.1), sync_period=3),
    "Lookahead of EMA": lambda: optimizers.Lookahead(
        optimizers.SGD(0.1, use_ema=True), sync_period=3
    ),
    "Lookahead of schedule-free": lambda: optimizers.Lookahead(
        optimizers.ScheduleFreeSGD(0.1), sync_period=3
    ),
    "Mechanic": lambda: optimizers.Mechanic(optimizers.SGD(1.0)),
    "Mechanic of EMA": lambda: optimizers.Mechanic(optimizers.SGD(1.0, use_ema=True)),
    "Mechanic with Δ": lambda: optimizers.Mechanic(
        optimizers.SGD(1.0), store_delta=True
    ),
    "SAM": lambda: optimizers.SAM(optimizers.SGD(0.1)),
    "SAM of schedule-free": lambda: optimizers.SAM(optimizers.ScheduleFreeSGD(0.1)),
}


def model_with(optimizer):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(optimizer, "mse", jit_compile=False)
    return model


def fit(model, *callbacks, epochs=3):
    options = {"batch_size": 4, "shuffle": False, "verbose": 0, "epochs": epochs}
    model.fit(INPUTS, TARGETS, callbacks=list(callbacks), **options)


def weights(model):
    return np.array(model.get_weights()[0])


@pytest.mark.filterwarnings("ignore:The weights are now")
@pytest.mark.parametrize("callbacks", [[], [EvaluateAveraged]])
@pytest.mark.parametrize("made", MADE)
def test_rate_zero_does_not_move_them(made, callbacks):
    model = model_with(MADE[made]())
    fit(model, *(callback() for callback in callbacks))
    assert np.abs(weights(model) - BEST).max() > 0.1
    model.set_weights([BEST])
    model.optimizer.learning_rate = 0.0
    fit(model, *(callback() for callback in callbacks))
    np.testing.assert_allclose(weights(model), BEST, rtol=1e-6)


class Best(keras.callbacks.Callback):
    """Makes the second epoch the best one, and keeps its weights."""

    def on_epoch_end(self, epoch, logs=None):
        logs["score"] = float(epoch == 1)
        if epoch == 1:
            self.best = weights(self.model)


@pytest.mark.parametrize("made", MADE)
def test_the_best_epoch_is_kept(made, tmp_path):
    model, best = model_with(MADE[made]()), Best()
    monitor = {"monitor": "score", "mode": "max"}
    file = str(tmp_path / "best.keras")
    stopping = keras.callbacks.EarlyStopping(
        **monitor, restore_best_weights=True, patience=1
    )
    checkpoint = keras.callbacks.ModelCheckpoint(file, **monitor, save_best_only=True)
    fit(model, EvaluateAveraged(), best, stopping, checkpoint, epochs=5)
    assert stopping.stopped_epoch == 2
    loaded = keras.saving.load_model(file)
    for kept in (model, loaded):
        np.testing.assert_array_equal(weights(kept), best.best)
    # Further training starts there. A loaded model has its whole state, and goes on
    # from the training point that belongs to it.
    model.optimizer.learning_rate = 0.0
    fit(model, EvaluateAveraged())
    np.testing.assert_allclose(weights(model), best.best, rtol=1e-6)


class Two(keras.Model):
    """A model whose two optimizers Keras does not know."""

    def __init__(self, *made):
        super().__init__()
        self.first, self.second = keras.layers.Dense(2), keras.layers.Dense(1)
        self.pair = {"both": list(made)}

    def call(self, x):
        return self.second(self.first(x))


def test_optimizers_of_a_gan_are_found():
    made = [optimizers.ScheduleFreeSGD(0.1), optimizers.SGD(0.1, use_ema=True)]
    model, callback = Two(*made), EvaluateAveraged()
    callback.set_model(model)
    assert {id(o) for o in callback._optimizers()} == set(map(id, made))
    model(INPUTS)
    points = []
    for optimizer, layer in zip(made, (model.first, model.second), strict=True):
        variables = layer.trainable_variables
        for _ in range(3):
            gradients = [keras.ops.ones(v.shape) for v in variables]
            optimizer.apply(gradients, variables)
        points.append([np.array(v) for v in variables])
    callback.on_train_end()
    for before, layer in zip(points, (model.first, model.second), strict=True):
        assert np.abs(np.array(layer.kernel) - before[0]).max() > 1e-3


def test_none_found_is_a_warning():
    model = model_with("sgd")
    with pytest.warns(UserWarning, match=r"optimizers=\[\.\.\.\]"):
        fit(model, EvaluateAveraged(), epochs=1)


class Interrupt(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            raise KeyboardInterrupt


INTERRUPTED = {
    "SAM": lambda: optimizers.SAM(optimizers.SGD(0.1), rho=0.5),
    "deferred": lambda: optimizers.Adam(0.1),
}


@pytest.mark.usefixtures("by_row")
@pytest.mark.filterwarnings("ignore:The weights are now")
@pytest.mark.parametrize("made", INTERRUPTED)
def test_what_to_call_after_an_interrupt(made):
    """But for JAX, Keras calls no hook then: SAM's weights are left perturbed."""
    ids, ends = np.array([0, 1, 0, 2, 0, 2, 0, 1])[:, None], []
    for interrupted in (False, True):
        keras.utils.set_random_seed(0)
        rows = keras.layers.Embedding(2_000, 2), keras.layers.Flatten()
        model = keras.Sequential([*rows, keras.layers.Dense(1)])
        model.compile(INTERRUPTED[made](), "mse", jit_compile=False)
        options = {"batch_size": 2, "shuffle": False, "verbose": 0}
        if interrupted:
            with pytest.raises(KeyboardInterrupt):
                model.fit(ids, TARGETS[:8], callbacks=[Interrupt()], **options)
            before = [w.copy() for w in model.get_weights()]
            model.optimizer.to_evaluation()
            # On JAX Keras does not return from `fit` without its last steps.
            if made == "SAM" and keras.backend.backend() != "jax":
                assert np.abs(model.get_weights()[0] - before[0]).max() > 1e-3
        else:
            model.fit(ids[:6], TARGETS[:6], **options)
        ends.append(model.get_weights())
    for got, want in zip(*ends, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)
