"""The embedding: Keras's, but sparse, and exact under deferred updates."""

import gc

import keras
import numpy as np
import pytest
from compared_models import distance, resumed_bit_by_bit, weights
from keras import ops

import keras_adaptive
from keras_adaptive import optimizers
from keras_adaptive.optimizers.engine.sparse import tables

BACKEND = keras.backend.backend()
WORDS, WIDTH, TEXTS, LENGTH = 300, 4, 96, 5
BATCH_SIZE, EPOCHS = 8, 4

sparse_rows = pytest.mark.skipif(BACKEND == "jax", reason="JAX's gradients are dense")


@pytest.fixture(autouse=True)
def by_row(monkeypatch):
    """Tables as small as these would otherwise be updated whole."""
    from keras_adaptive.optimizers.engine.sparse import row_updates

    monkeypatch.setattr(row_updates, "SMALL_TABLE", 0)
    monkeypatch.setattr(row_updates, "ROWS_PER_ID", 0)


def texts():
    rng = np.random.default_rng(0)
    ids = np.minimum(rng.zipf(1.3, (TEXTS, LENGTH)) - 1, WORDS - 1)
    return ids, rng.normal(size=(TEXTS, 1))


def make_model(optimizer, layer=keras_adaptive.layers.Embedding, **options):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((LENGTH,), dtype="int32"),
            layer(WORDS, WIDTH, dtype="float64", **options),
            keras.layers.Flatten(dtype="float64"),
            keras.layers.Dense(3, "tanh", dtype="float64"),
            keras.layers.Dense(1, dtype="float64"),
        ]
    )
    model.compile(optimizer, "mse")
    return model


def fitted(model, epochs=EPOCHS, **options):
    ids, labels = texts()
    history = model.fit(
        ids,
        labels,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        validation_data=(ids[:40], labels[:40]),
        **options,
    )
    return history.history


CASES = {  # `test_whole_trainings` has the other classes
    "Adam": lambda **o: optimizers.Adam(0.02, **o),
    "average": lambda **o: optimizers.Adam(0.02, use_ema=True, ema_momentum=0.9, **o),
    "accumulation": lambda **o: optimizers.Adam(
        0.02, gradient_accumulation_steps=3, **o
    ),
}


@sparse_rows
@pytest.mark.parametrize("case", CASES)
def test_deferred_is_dense(case):
    """Weights and validation losses, without any callback."""
    deferred = make_model(CASES[case](sparse="deferred"))
    dense = make_model(CASES[case](sparse="dense"))
    losses, wanted = fitted(deferred), fitted(dense)
    assert distance(weights(deferred), weights(dense)) < 1e-9
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(losses[name], wanted[name], rtol=1e-9)


@sparse_rows
def test_keras_s_layer_reads_rows_that_are_behind():
    """What the layer is for: this test fails once Keras's is as exact."""
    if BACKEND == "torch":
        pytest.skip("its gradient is dense, and no row is ever behind")
    dense = make_model(optimizers.Adam(0.02, sparse="dense"))
    theirs = make_model(optimizers.Adam(0.02), keras.layers.Embedding)
    fitted(dense), fitted(theirs)
    assert distance(weights(theirs), weights(dense)) > 1e-3


@sparse_rows
def test_prediction_in_the_middle_of_training_is_up_to_date():
    ids, labels = texts()
    deferred = make_model(optimizers.SGD(0.05, momentum=0.9, sparse="deferred"))
    dense = make_model(optimizers.SGD(0.05, momentum=0.9, sparse="dense"))
    for model in (deferred, dense):
        for batch in range(6):
            part = slice(8 * batch, 8 * batch + 8)
            model.train_on_batch(ids[part], labels[part])
    everything = np.arange(WORDS).reshape(-1, LENGTH)
    table = deferred.layers[0].embeddings
    behind = ops.convert_to_numpy(table) - ops.convert_to_numpy(
        dense.layers[0].embeddings
    )
    assert np.abs(behind).max() > 1e-3
    np.testing.assert_allclose(
        deferred.predict(everything, verbose=0),
        dense.predict(everything, verbose=0),
        rtol=1e-9,
    )


@sparse_rows
@pytest.mark.parametrize("how", ["predict", "evaluate"])
def test_a_function_of_before_training_knows_a_built_optimizer(how):
    """Keras keeps it until the next `compile`; see `docs/sparse_gradients.md`."""
    ids, labels = texts()
    everything = np.arange(WORDS).reshape(-1, LENGTH)
    given = [everything] if how == "predict" else [everything, np.ones(len(everything))]
    got = []
    for mode in ("deferred", "dense"):
        model = make_model(optimizers.SGD(0.05, momentum=0.9, sparse=mode))
        model.optimizer.build(model.trainable_variables)
        getattr(model, how)(*given, verbose=0)
        for batch in range(6):
            part = slice(8 * batch, 8 * batch + 8)
            model.train_on_batch(ids[part], labels[part])
        got.append(getattr(model, how)(*given, verbose=0))
    np.testing.assert_allclose(*got, rtol=1e-9)


def test_rows_now_without_any_that_are_behind():
    """As on JAX, where there are none."""
    table = keras.Variable(np.arange(12.0).reshape(6, 2))
    optimizer = optimizers.Adam(0.1)
    optimizer.build([table])
    got = optimizer.rows_now(table, ops.convert_to_tensor([4, 1], "int64"))
    np.testing.assert_array_equal(ops.convert_to_numpy(got), [[8, 9], [2, 3]])


@sparse_rows
def test_it_resumes_bit_by_bit(tmp_path):
    """Also in the middle, with rows that are behind."""
    ids, labels = texts()

    def train(model, batches):
        for batch in batches:
            part = slice(8 * batch, 8 * batch + 8)
            model.train_on_batch(ids[part], labels[part])

    path = str(tmp_path / "model.keras")
    resumed_bit_by_bit(make_model(optimizers.AdamW(0.02)), train, path)


@pytest.mark.parametrize(
    "optimizer", [lambda: keras.optimizers.Adam(0.02), lambda: optimizers.Adam(0.02)]
)
def test_it_trains_as_keras_s_layer_where_nothing_is_deferred(optimizer):
    if optimizer().__module__.startswith("keras_adaptive"):
        optimizer = lambda: optimizers.Adam(0.02, sparse="dense")  # noqa: E731
    ours, theirs = (
        make_model(optimizer(), layer)
        for layer in (keras_adaptive.layers.Embedding, keras.layers.Embedding)
    )
    fitted(ours), fitted(theirs)
    assert distance(weights(ours), weights(theirs)) < 1e-12


def test_files_are_keras_s(tmp_path):
    ours = make_model(optimizers.Adam(0.02))
    theirs = make_model(optimizers.Adam(0.02), keras.layers.Embedding)
    fitted(ours, epochs=1)
    for source, target in ((ours, theirs), (theirs, ours)):
        path = str(tmp_path / "model.weights.h5")
        source.save_weights(path)
        target.load_weights(path)
        assert distance(weights(target), weights(source)) == 0
    config = ours.layers[0].get_config()
    assert config == theirs.layers[0].get_config() | {"name": config["name"]}


def test_it_counts_negative_ids_from_the_end_as_keras():
    model = make_model(optimizers.Adam(0.02))
    fitted(model, epochs=1)
    theirs = keras.layers.Embedding(WORDS, WIDTH, dtype="float64")
    theirs.build()
    theirs.set_weights([ops.convert_to_numpy(model.layers[0].embeddings)])
    ids = np.array([[0, -1, 3]])
    np.testing.assert_array_equal(
        ops.convert_to_numpy(model.layers[0](ids)), ops.convert_to_numpy(theirs(ids))
    )


def test_lora_takes_the_path_of_keras():
    model = make_model(optimizers.Adam(0.02))
    fitted(model, epochs=1)
    model.layers[0].enable_lora(2)
    model.compile(optimizers.Adam(0.02), "mse")
    before = ops.convert_to_numpy(model.layers[0]._embeddings)
    fitted(model, epochs=1)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(model.layers[0]._embeddings), before
    )
    assert np.abs(ops.convert_to_numpy(model.layers[0].lora_embeddings_b)).max() > 0


WRAPPED = {
    "SAM": lambda inner: optimizers.SAM(inner, rho=0.5),
    "ASAM": lambda inner: optimizers.ASAM(inner, rho=0.5),
    "Lookahead": lambda inner: optimizers.Lookahead(inner, sync_period=4),
    "Lookahead, SAM": lambda inner: optimizers.Lookahead(
        optimizers.SAM(inner, rho=0.5), sync_period=2
    ),
    "Mechanic": optimizers.Mechanic,
}


@sparse_rows
@pytest.mark.parametrize("wrapper", WRAPPED)
def test_deferred_is_dense_inside_of_wrappers(wrapper):
    """Rows decay while they are behind; what SAM adds to them does not."""

    def make(mode):
        inner = optimizers.AdamW(0.02, weight_decay=0.1, epsilon=2.0**-45, sparse=mode)
        return make_model(WRAPPED[wrapper](inner))

    deferred, dense = make("deferred"), make("dense")
    losses, wanted = fitted(deferred), fitted(dense)
    assert distance(weights(deferred), weights(dense)) < 1e-9
    np.testing.assert_allclose(losses["val_loss"], wanted["val_loss"], rtol=1e-6)


@sparse_rows
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    """Rows are exact before they are cast; `mixed_float16` scales the loss."""
    everything = np.arange(WORDS).reshape(-1, LENGTH)
    got = {}
    for mode in ("deferred", "dense"):
        optimizer = optimizers.SGD(0.05, momentum=0.9, sparse=mode)
        if policy == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, 2.0**8)
        keras.utils.set_random_seed(1)
        layer = keras_adaptive.layers.Embedding(WORDS, WIDTH, dtype=policy)
        inputs = keras.Input((LENGTH,), dtype="int32")
        outputs = keras.layers.Dense(1)(keras.layers.Flatten()(layer(inputs)))
        model = keras.Model(inputs, outputs)
        model.compile(optimizer, "mse", jit_compile=False)
        ids, labels = texts()
        for batch in range(6):
            part = slice(8 * batch, 8 * batch + 8)
            model.train_on_batch(ids[part], labels[part])
        read = layer(everything)
        assert keras.backend.standardize_dtype(read.dtype) == policy[6:]
        got[mode] = ops.convert_to_numpy(ops.cast(read, "float32"))
    # One unit in the last place of the policy's dtype, for rounding at the edge.
    tolerance = {"mixed_bfloat16": 2.0**-8, "mixed_float16": 2.0**-11}[policy]
    np.testing.assert_allclose(got["deferred"], got["dense"], rtol=tolerance)


@pytest.mark.tensorflow
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_casts_no_table(dtype):
    import tensorflow as tf

    layer = keras_adaptive.layers.Embedding(4999, WIDTH, dtype=dtype)
    layer.build()
    optimizer = optimizers.Adam()
    optimizer.build([layer._embeddings])
    spec = tf.TensorSpec([None, LENGTH], tf.int32)
    graph = tf.function(layer).get_concrete_function(spec).graph
    casts = [op for op in graph.get_operations() if op.type == "Cast"]
    assert all(4999 not in (op.outputs[0].shape or ()) for op in casts)


@pytest.mark.torch
def test_mixed_precision_has_a_sparse_gradient_in_the_dtype_of_the_table():
    layer = keras_adaptive.layers.Embedding(WORDS, WIDTH, dtype="mixed_bfloat16")
    layer.build()
    optimizer = optimizers.Adam()
    optimizer.build([layer._embeddings])
    layer(np.array([[1, 2, 1]])).float().sum().backward()
    gradient = layer._embeddings.value.grad
    assert gradient.is_sparse and gradient._nnz() == 2
    assert str(gradient.dtype) == "torch.float32"


@pytest.mark.torch
def test_inside_a_loss_scale_the_gradient_is_dense():
    """Keras looks for infinities, which PyTorch cannot in sparse tensors."""
    layer = keras_adaptive.layers.Embedding(WORDS, WIDTH)
    layer.build()
    optimizer = keras.optimizers.LossScaleOptimizer(optimizers.Adam())
    optimizer.build([layer._embeddings])
    layer(np.array([[1, 2, 1]])).sum().backward()
    assert not layer._embeddings.value.grad.is_sparse


@sparse_rows
def test_a_shared_layer():
    def make(mode):
        keras.utils.set_random_seed(0)
        shared = keras_adaptive.layers.Embedding(WORDS, WIDTH)
        left, right = (keras.Input((LENGTH,), dtype="int32") for _ in range(2))
        both = keras.layers.Concatenate()([shared(left), shared(right)])
        outputs = keras.layers.Dense(1)(keras.layers.Flatten()(both))
        model = keras.Model([left, right], outputs)
        model.compile(optimizers.SGD(0.05, momentum=0.9, sparse=mode), "mse")
        ids, labels = texts()
        model.fit([ids, ids[::-1]], labels, batch_size=8, shuffle=False, verbose=0)
        return weights(model)

    # Sums of float32 in another order.
    assert distance(make("deferred"), make("dense")) < 1e-5


def test_a_layer_that_is_gone_leaves_nothing_behind():
    gc.collect()
    before = len(tables._ENTRIES)
    model = make_model(optimizers.Adam(0.02))
    assert len(tables._ENTRIES) == before + 1
    del model
    keras.backend.clear_session()
    gc.collect()
    assert len(tables._ENTRIES) == before
