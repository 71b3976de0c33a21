"""`SparseDense` trains on bags of words as with dense updates, in O(touched rows)."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from compared_models import distance, resumed_bit_by_bit, weights
from keras import ops
from scipy import sparse

from keras_adaptive import layers, optimizers

BACKEND = keras.backend.backend()
WORDS, UNITS, TEXTS, BATCH = 300, 4, 96, 8
TINY = 2.0**-45
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "sparse_gradients.md"

pytestmark = pytest.mark.skipif(BACKEND == "jax", reason="JAX's gradients are dense")


@pytest.fixture(autouse=True)
def by_row(monkeypatch):
    """Tables as small as these would otherwise be updated whole."""
    from keras_adaptive.optimizers.engine.sparse import row_updates

    monkeypatch.setattr(row_updates, "SMALL_TABLE", 0)
    monkeypatch.setattr(row_updates, "ROWS_PER_ID", 0)


def texts(rows=TEXTS, seed=0):
    rng = np.random.default_rng(seed)
    words = np.minimum(rng.zipf(1.3, (rows, 6)) - 1, WORDS - 1)
    x = sparse.lil_matrix((rows, WORDS), dtype="float32")
    for row, ids in enumerate(words[:-1]):  # the last text has no words
        x[row, np.unique(ids)] = rng.normal(size=len(np.unique(ids)))
    return x.tocsr(), rng.normal(size=(rows, 1)).astype("float32")


def tensor(x):
    """A sparse tensor of the backend."""
    x = x.tocoo()
    x.sum_duplicates()
    places = np.stack([x.row, x.col])
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.sparse.reorder(tf.SparseTensor(places.T, x.data, x.shape))
    import torch

    return torch.sparse_coo_tensor(
        torch.tensor(places), torch.tensor(x.data), x.shape, check_invariants=True
    )


class Batches(keras.utils.PyDataset):
    """The way in which Keras takes sparse batches on every backend."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return -(-self.x.shape[0] // BATCH)

    def __getitem__(self, index):
        rows = slice(BATCH * index, BATCH * (index + 1))
        return tensor(self.x[rows]), self.y[rows]


def make_model(optimizer, cls=layers.SparseDense, dtype="float64", **options):
    keras.utils.set_random_seed(1)
    inputs = keras.Input(
        (WORDS,), sparse=BACKEND == "tensorflow", dtype=options.pop("input", "float32")
    )
    hidden = cls(UNITS, activation="tanh", dtype=dtype, **options)(inputs)
    head = keras.layers.Dense(1, dtype="float64" if dtype == "float64" else "float32")
    model = keras.Model(inputs, head(hidden))
    model.compile(optimizer, "mse", jit_compile=False)
    return model


def fitted(model, epochs=3):
    x, y = texts()
    history = model.fit(
        Batches(x, y),
        epochs=epochs,
        shuffle=False,
        verbose=0,
        validation_data=Batches(x[:40], y[:40]),
    )
    return history.history


CASES = {
    "SGD, momentum": (
        lambda **o: optimizers.SGD(0.05, momentum=0.9, **o),
        1e-12,
    ),
    "Lion": (lambda **o: optimizers.Lion(0.003, **o), 1e-12),
    # Skipped steps take ε for a share of √v, which decays: TINY hardly shows.
    "Adam": (lambda **o: optimizers.Adam(0.02, epsilon=TINY, **o), 1e-7),
    "AdamW, average": (
        lambda **o: optimizers.AdamW(0.02, epsilon=TINY, use_ema=True, **o),
        1e-7,
    ),
    "accumulation": (
        lambda **o: optimizers.Adam(
            0.02, epsilon=TINY, gradient_accumulation_steps=3, **o
        ),
        1e-7,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_deferred_is_dense(case):
    """Weights and validation losses, without any callback."""
    make, tolerance = CASES[case]
    deferred = make_model(make(sparse="deferred"))
    dense = make_model(make(sparse="dense"))
    losses, wanted = fitted(deferred), fitted(dense)
    assert deferred.optimizer.may_be_behind(deferred.layers[1].kernel)
    assert distance(weights(deferred), weights(dense)) < tolerance
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(losses[name], wanted[name], rtol=tolerance)


@pytest.mark.parametrize("how", ["predict", "evaluate"])
def test_in_the_middle_of_training_it_reads_rows_as_they_are_now(how):
    x, y = texts()
    got = {}
    for mode in ("deferred", "dense"):
        model = make_model(optimizers.SGD(0.05, momentum=0.9, sparse=mode))
        for batch in range(6):
            part = slice(BATCH * batch, BATCH * (batch + 1))
            model.train_on_batch(tensor(x[part]), y[part])
        data = Batches(sparse.eye(WORDS, format="csr", dtype="float32"), np.ones(WORDS))
        kernel = ops.convert_to_numpy(model.layers[1].kernel)
        got[mode] = kernel, getattr(model, how)(data, verbose=0)
    assert np.abs(got["deferred"][0] - got["dense"][0]).max() > 1e-3
    np.testing.assert_allclose(got["deferred"][1], got["dense"][1], rtol=1e-9)


@pytest.mark.parametrize("optimizer", [optimizers.Adam, keras.optimizers.Adam])
def test_it_trains_as_dense_on_dense_batches(optimizer):
    options = {"sparse": "dense"} if optimizer is optimizers.Adam else {}
    ours = make_model(optimizer(0.02, **options))
    fitted(ours, epochs=1)
    keras.utils.set_random_seed(1)
    inputs = keras.Input((WORDS,), dtype="float32")
    hidden = keras.layers.Dense(UNITS, activation="tanh", dtype="float64")(inputs)
    theirs = keras.Model(inputs, keras.layers.Dense(1, dtype="float64")(hidden))
    theirs.compile(optimizer(0.02, **options), "mse")
    x, y = texts()
    theirs.fit(x.toarray(), y, batch_size=BATCH, epochs=1, shuffle=False, verbose=0)
    # In the order of the sums; Keras's Adam computes in float32 in places.
    assert distance(weights(ours), weights(theirs)) < 1e-6


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    """The kernel is read in its own dtype, and its gradient is in that dtype."""
    got = {}
    for mode in ("deferred", "dense"):
        optimizer = optimizers.SGD(0.05, momentum=0.9, sparse=mode)
        if policy == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, 2.0**8)
        model = make_model(optimizer, dtype=policy)
        fitted(model)
        got[mode] = weights(model)
        hidden = model.layers[1](tensor(texts()[0]))
        assert keras.backend.standardize_dtype(hidden.dtype) == policy[6:]
        assert model.layers[1].kernel.dtype == "float32"
    assert distance(got["deferred"], got["dense"]) < 1e-4


def test_it_resumes_bit_by_bit(tmp_path):
    """Also in the middle, with rows that are behind."""
    x, y = texts()

    def train(model, batches):
        for batch in batches:
            part = slice(BATCH * batch, BATCH * (batch + 1))
            model.train_on_batch(tensor(x[part]), y[part])

    path = str(tmp_path / "model.keras")
    again = resumed_bit_by_bit(make_model(optimizers.AdamW(0.02)), train, path)
    assert type(again.layers[1]) is layers.SparseDense


def test_lora_takes_the_path_of_dense():
    model = make_model(optimizers.Adam(0.02))
    fitted(model, epochs=1)
    layer = model.layers[1]
    layer.enable_lora(2)
    model.compile(optimizers.Adam(0.02), "mse", jit_compile=False)
    before = ops.convert_to_numpy(layer._kernel)
    fitted(model, epochs=1)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer._kernel), before)
    assert np.abs(ops.convert_to_numpy(layer.lora_kernel_b)).max() > 0


@pytest.mark.torch
class TestOnPyTorch:
    """What PyTorch alone has: two layouts, and gradients that may be dense."""

    def gradient(self, inputs, optimizer=None, cls=layers.SparseDense):
        keras.utils.set_random_seed(1)
        layer = cls(UNITS)
        layer.build((None, WORDS))
        if optimizer is not None:
            optimizer.build([layer._kernel])
        outputs = layer(inputs)
        (outputs**2).sum().backward()
        return outputs.detach().numpy(), layer._kernel.value.grad

    def test_the_example_of_the_documentation(self):
        text = DOCUMENTATION.read_text("utf-8")
        (example,) = re.findall(r"^```py\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        namespace = {}
        exec(compile(example, DOCUMENTATION, "exec"), namespace)
        model = namespace["model"]
        assert model.optimizer.may_be_behind(model.layers[1].kernel)

    def layouts(self, x):
        import torch

        yield tensor(x)
        yield tensor(x).to_sparse_csr()
        x = x.tocoo()
        twice = [torch.tensor(np.tile(part, 2)) for part in (x.row, x.col, x.data / 2)]
        yield torch.sparse_coo_tensor(
            torch.stack(twice[:2]), twice[2], x.shape, check_invariants=True
        )

    def test_each_row_of_the_gradient_once(self):
        x = texts()[0]
        want, dense = self.gradient(ops.convert_to_tensor(x.toarray()))
        for inputs in self.layouts(x):
            got, gradient = self.gradient(inputs, optimizers.Adam())
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
            assert gradient.is_sparse
            ids = gradient._indices()[0].numpy()
            np.testing.assert_array_equal(ids, np.unique(x.indices))
            np.testing.assert_allclose(gradient.to_dense(), dense, rtol=1e-5, atol=1e-5)

    def test_other_optimizers_get_a_dense_gradient(self):
        x = texts()[0]
        for inputs in self.layouts(x):
            _, gradient = self.gradient(inputs)
            assert not gradient.is_sparse

    def test_the_gradient_of_the_input(self):
        x = texts()[0]
        dense = ops.convert_to_tensor(x.toarray()).requires_grad_()
        self.gradient(dense)
        inputs = tensor(x).requires_grad_()
        self.gradient(inputs, optimizers.Adam())
        at = np.nonzero(x.toarray())
        np.testing.assert_allclose(
            inputs.grad.to_dense()[at], dense.grad[at], rtol=1e-4, atol=1e-5
        )

    @pytest.mark.parametrize("rows", [0, 3])
    def test_a_batch_without_words(self, rows):
        inputs = tensor(sparse.csr_matrix((rows, WORDS), dtype="float32"))
        got, gradient = self.gradient(inputs, optimizers.Adam())
        np.testing.assert_array_equal(got, np.zeros((rows, UNITS)))
        assert gradient._nnz() == 0

    def test_inside_a_loss_scale_the_gradient_is_dense(self):
        """Keras looks for infinities, which PyTorch cannot in sparse tensors."""
        x = texts()[0]
        for wrap in (lambda o: o, optimizers.Lookahead):
            inner = wrap(optimizers.Adam())
            outer = keras.optimizers.LossScaleOptimizer(inner)
            _, gradient = self.gradient(tensor(x), outer)
            assert not gradient.is_sparse
