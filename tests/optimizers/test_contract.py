"""What the base class promises to optimizers and to those who use them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from optimizer_cases import CASES, SPARSE_MODES, name_of
from sparse_problem import batches, variables
from training import distance, gradients, stepper, trajectory

from keras_adaptive.optimizers import DECAY_RATE, Adam, AdaptiveOptimizer, Slot

pytestmark = pytest.mark.tensorflow


@keras.saving.register_keras_serializable("tests")
class SignMomentum(AdaptiveOptimizer):
    slots = {"momentum": Slot()}
    constraints = {"beta": DECAY_RATE}

    def __init__(self, learning_rate=0.001, beta=0.9, **options):
        super().__init__(learning_rate, **options)
        self.beta = beta

    def rule(self, gradient, state, hyper):
        m = hyper.beta * state["momentum"] + (1 - hyper.beta) * gradient
        return hyper.learning_rate * ops.sign(m), {"momentum": m}


class Embedded(keras.Model):
    """Two sparse variables, a frozen one, and one that gets no gradient."""

    def __init__(self):
        super().__init__()
        self.words = keras.layers.Embedding(11, 3)
        self.tags = keras.layers.Embedding(5, 3)
        self.tags.build()
        self.frozen = keras.layers.Dense(3, trainable=False)
        self.head = keras.layers.Dense(1)
        self.unused = self.add_weight(shape=(2,), name="unused")

    def call(self, inputs):
        words = ops.mean(self.words(inputs), axis=1)
        tags = ops.take(self.tags.embeddings, inputs[:, 0] % 5, axis=0)
        return self.head(self.frozen(words + tags))


def fit(optimizer, model=None, **options):
    keras.utils.set_random_seed(0)
    model = model or Embedded()
    rng = np.random.default_rng(0)
    x = rng.integers(0, 11, (40, 4))
    y = ops.convert_to_numpy(x.mean(1, keepdims=True)) / 5
    model.compile(optimizer, "mse", jit_compile=False)
    history = model.fit(x, y, batch_size=8, verbose=0, **options)
    return model, history.history["loss"]


# A user's own optimizer.


def test_a_user_s_optimizer_trains_sparse_and_dense():
    optimizer = SignMomentum(0.02, beta=0.5, weight_decay=0.01)
    assert optimizer.sparse == "lazy"
    assert optimizer.get_config()["beta"] == 0.5
    _, losses = fit(optimizer, epochs=6)
    assert losses[-1] < 0.5 * losses[0]


def test_a_user_s_optimizer_gets_the_rest_for_free():
    options = {"clipnorm": 1.0, "use_ema": True, "gradient_accumulation_steps": 2}
    got = trajectory(SignMomentum(sparse="dense", **options), sparse=True)
    want = trajectory(SignMomentum(sparse="dense", **options), False, "eager")
    assert distance(got[-1], want[-1]) < 1e-12
    with pytest.raises(ValueError, match="no closed form"):
        SignMomentum(sparse="deferred")
    with pytest.raises(ValueError, match="SignMomentum.*`beta`"):
        SignMomentum(beta=1.0)
    serialized = keras.optimizers.serialize(SignMomentum(beta=0.25))
    assert keras.optimizers.deserialize(serialized).beta == 0.25


def test_without_a_rule():
    class Nothing(AdaptiveOptimizer):
        pass

    with pytest.raises(NotImplementedError, match="Nothing must define `rule"):
        Nothing(0.1).apply([tf.ones(2)], [keras.Variable(np.zeros(2))])


def test_lazy_rows_and_their_state_stand_still():
    for case in CASES:
        optimizer, model = case.make(sparse="lazy", weight_decay=0.1), variables()
        step = stepper(optimizer, model, how="eager")
        first, second = batches(2)
        first[0][:] %= 6
        step(first)
        before = [
            v.numpy().copy()
            for v in (model[0], *optimizer._engine.states[0].slots.values())
        ]
        second[0][:] = 6 + second[0] % 5
        step(second)
        after = [
            v.numpy() for v in (model[0], *optimizer._engine.states[0].slots.values())
        ]
        for old, new in zip(before, after, strict=True):
            np.testing.assert_array_equal(new[:6], old[:6])
            assert (new[6:] != old[6:]).any()


# Models.


@pytest.mark.slow
@pytest.mark.parametrize("mode", SPARSE_MODES)
def test_frozen_and_unused_variables(mode):
    optimizer = Adam(sparse=mode, use_ema=True, gradient_accumulation_steps=2)
    model = Embedded()
    with pytest.warns(UserWarning, match="Gradients do not exist.*unused"):
        model, losses = fit(optimizer, model, epochs=2)
    assert np.isfinite(losses).all()
    trained = {id(v) for v in optimizer._trainable_variables}
    assert id(model.unused) in trained
    assert id(model.frozen.kernel) not in trained
    sparse = [i for i in range(len(trained)) if optimizer._engine.rows.kept.has_any(i)]
    assert len(sparse) == (0 if mode == "dense" else 2)


@pytest.mark.parametrize("mode", SPARSE_MODES)
def test_no_retracing_after_the_first_step(mode):
    traces = []
    optimizer, model = Adam(sparse=mode, use_ema=True, weight_decay=0.1), variables()

    @tf.function(autograph=False)
    def step(*batch):
        traces.append(None)
        optimizer.apply(gradients(batch, model, sparse=True), model)

    for batch in batches(5):
        step(*[tf.constant(array) for array in batch])
    # TensorFlow traces a function that makes variables twice.
    assert len(traces) <= 2
    count = len(optimizer.variables)
    assert step.experimental_get_tracing_count() == len(traces)
    optimizer.flush()
    assert len(optimizer.variables) == count


def test_changing_batch_sizes_do_not_retrace():
    optimizer = Adam()
    table = keras.Variable(np.zeros((20, 2)), dtype="float32")
    traces = []

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.int64)])
    def step(ids):
        traces.append(None)
        values = tf.ones((tf.size(ids), 2))
        optimizer.apply([tf.IndexedSlices(values, ids, tf.constant([20, 2]))], [table])

    for count in (1, 19, 40, 3):
        step(tf.range(count, dtype=tf.int64) % 20)
    assert len(traces) <= 2


# Shapes and kinds of gradients.


@pytest.mark.parametrize("shape", [(7,), (7, 2, 3), (7, 1)], ids=str)
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_rows_of_any_rank(case, shape):
    options = {"weight_decay": 0.1, "use_ema": True, "clipnorm": 1.0}
    rng = np.random.default_rng(0)
    start = rng.normal(size=shape)
    steps = [
        (rng.integers(0, 7, 3), rng.normal(size=(3, *shape[1:]))) for _ in range(6)
    ]

    def train(mode, densify):
        table = keras.Variable(start, dtype="float64")
        optimizer = case.make(sparse=mode, **options)
        for ids, values in steps:
            gradient = tf.IndexedSlices(
                tf.constant(values), tf.constant(ids), tf.constant(list(shape))
            )
            if densify:
                gradient = tf.convert_to_tensor(gradient)
            optimizer.apply([gradient], [table])
        optimizer.finalize_variable_values([table])
        return [table.numpy()]

    want = train("dense", densify=True)
    assert distance(train("dense", densify=False), want) < 1e-12
    if "deferred" in case.modes:
        assert distance(train("deferred", densify=False), want) < 1e-9


MIXED = {
    "sparse first": [True, False, True, False, False, True, True, False, True],
    "dense first": [False, True, True, False, True, False, False, True, True],
}


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [None, 2], ids=["", "accumulation"])
@pytest.mark.parametrize("order", MIXED)
@pytest.mark.parametrize("case", CASES[2:6], ids=name_of)
def test_dense_and_sparse_gradients_for_one_variable(case, order, accumulation):
    options = {
        "weight_decay": 0.1,
        "use_ema": True,
        "gradient_accumulation_steps": accumulation,
        "ema_overwrite_frequency": 3,
    }

    def train(mode, sparse):
        optimizer, model = case.make(sparse=mode, **options), variables()
        for batch, is_sparse in zip(batches(9), sparse, strict=True):
            stepper(optimizer, model, is_sparse, "eager")(batch)
        optimizer.finalize_variable_values(model)
        return [v.numpy() for v in model]

    want = train("dense", [False] * 9)
    for mode in set(case.modes) - {"lazy"}:
        assert distance(train(mode, MIXED[order]), want) < 1e-9


def test_tensorflow_variables():
    table = tf.Variable(np.ones((5, 2)), name="table")
    bias = tf.Variable(np.ones(2), name="bias")
    optimizer = Adam(0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    grads = [tf.IndexedSlices(tf.ones((2, 2), tf.float64), tf.constant([1, 1])), bias]
    grads[0] = tf.IndexedSlices(grads[0].values, grads[0].indices, tf.constant([5, 2]))
    optimizer.apply(grads, [table, bias])
    np.testing.assert_allclose(table[1], 0.9, rtol=1e-5)
    np.testing.assert_allclose(table[0], 1.0)


# Optimizers around optimizers.


def test_inside_multi_optimizer():
    def train(sparse, densify):
        model = variables()
        inner = [Adam(0.01, sparse=sparse, epsilon=1e-14, use_ema=True) for _ in "ab"]
        mapping = keras.optimizers.OptimizerMap(inner[0], {"excluded": inner[1]})
        optimizer = keras.optimizers.MultiOptimizer(mapping)
        for batch in batches(6):
            optimizer.apply(gradients(batch, model, not densify), model)
        optimizer.finalize_variable_values(model)
        assert all(len(o._trainable_variables) in (1, 2) for o in inner)
        return [v.numpy() for v in model]

    want = train("dense", densify=True)
    assert distance(train("dense", densify=False), want) < 1e-12
    assert distance(train("deferred", densify=False), want) < 1e-9


@pytest.mark.slow
def test_overflowing_steps_are_skipped_inside_loss_scale_optimizer():
    def train(bad):
        inner = Adam(0.01, weight_decay=0.1, use_ema=True, epsilon=1e-14)
        optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=1.0)
        model = variables()
        step = stepper(optimizer, model)
        for number, batch in enumerate(batches(6)):
            if number in bad:
                step(
                    tuple(
                        np.where(b > 0, np.inf, b) if b.dtype == float else b
                        for b in batch
                    )
                )
                optimizer.dynamic_scale.assign(1.0)
            step(batch)
        assert int(inner.iterations) == 6
        optimizer.finalize_variable_values(model)
        return [v.numpy() for v in model]

    for got, want in zip(train({0, 3}), train(set()), strict=True):
        np.testing.assert_array_equal(got, want)
