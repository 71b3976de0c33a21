"""Optimizers for matrices, and what they leave to another optimizer."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_adaptive.optimizers import SGD, SOAP, Adagrad, Adam, AdamW, Muon, Shampoo
from keras_adaptive.optimizers.catalogue.muon import newton_schulz
from keras_adaptive.optimizers.catalogue.shared.matrix_optimizer import matrix_shape

BACKEND = keras.backend.backend()
# Many `keras.ops` pass through float32 on PyTorch.
TOLERANCE = 1e-5 if BACKEND == "torch" else 1e-10
STEPS = 7
KERNEL, SQUARE, BIAS, TABLE = range(4)
PATHS = {
    "dense/kernel": (5, 3),
    "head/kernel": (3, 3),
    "head/bias": (3,),
    "user/embeddings": (6, 2),
}

every = pytest.mark.parametrize("cls", [Muon, SOAP, Shampoo])


def variables(paths=PATHS):
    rng = np.random.default_rng(0)
    model = []
    for path, shape in paths.items():
        layer, name = path.split("/")
        with keras.name_scope(layer):
            model.append(
                keras.Variable(rng.normal(size=shape), dtype="float64", name=name)
            )
    assert [v.path for v in model] == list(paths)
    return model


def gradients(paths=PATHS):
    rng = np.random.default_rng(1)
    return [[rng.normal(size=s) for s in paths.values()] for _ in range(STEPS)]


def values(model):
    return [ops.convert_to_numpy(v).copy() for v in model]


def trained(optimizer, paths=PATHS):
    """The variables after each step."""
    model, seen = variables(paths), []
    for grads in gradients(paths):
        optimizer.apply([ops.convert_to_tensor(g, "float64") for g in grads], model)
        seen.append(values(model))
    return seen


def of(seen, *indices):
    return [step[i] for step in seen for i in indices]


def assert_close(got, want, tolerance=TOLERANCE):
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance)


def differ(got, want):
    return all((g != w).any() for g, w in zip(got, want, strict=True))


def halving():
    return keras.optimizers.schedules.PiecewiseConstantDecay([3], [0.25, 0.125])


# Who updates what.


def test_by_default_muon_leaves_all_but_matrices_to_adamw():
    muon = Muon(halving(), adam_beta_2=0.875, adam_weight_decay=0.5)
    adamw = AdamW(halving(), beta_2=0.875, weight_decay=0.5)
    got, want = trained(muon), trained(adamw)
    assert_close(of(got, BIAS, TABLE), of(want, BIAS, TABLE), 1e-14)
    assert differ(of(got, KERNEL, SQUARE), of(want, KERNEL, SQUARE))


def test_by_default_embeddings_go_to_the_element_wise_relative():
    soap = trained(SOAP(0.25, weight_decay=0.5))
    adam = trained(Adam(0.25, 0.95, 0.95, 1e-8, weight_decay=0.5))
    assert_close(of(soap, TABLE), of(adam, TABLE), 1e-14)
    shampoo = trained(Shampoo(0.25, weight_decay=0.5))
    adagrad = trained(Adagrad(0.25, 0.0, 1e-4, weight_decay=0.5))
    assert_close(of(shampoo, TABLE), of(adagrad, TABLE), 1e-14)
    for got, want in ((soap, adam), (shampoo, adagrad)):
        assert differ(of(got, KERNEL, SQUARE, BIAS), of(want, KERNEL, SQUARE, BIAS))


@every
def test_exclusion(cls):
    def fallen_back(**options):
        optimizer = cls(fallback=SGD(0.5), **options)
        got = of(trained(optimizer)[:2], *range(4))
        want = of(trained(SGD(0.5))[:2], *range(4))
        return [np.array_equal(g, w) for g, w in zip(got, want, strict=True)][4:]

    vectors = cls is Muon
    assert fallen_back() == [False, False, vectors, True]
    assert fallen_back(exclude_layers=["^head"]) == [False, True, True, True]
    assert fallen_back(exclude_embeddings=False) == [False, False, vectors, False]


def test_uses_fallback_may_be_overridden():
    class MuonForKernels(Muon):
        def uses_fallback(self, variable):
            return not variable.path.startswith("dense/")

    got = trained(MuonForKernels(0.25, adam_weight_decay=None))
    assert_close(of(got, SQUARE, TABLE), of(trained(Adam(0.25)), SQUARE, TABLE), 1e-14)
    assert_close(of(got, KERNEL), of(trained(Muon(0.25)), KERNEL), 1e-14)


# The fallback.


@every
def test_a_given_fallback_has_its_own_rate_and_decay(cls):
    def fallback():
        return AdamW(halving(), weight_decay=0.5)

    got = trained(cls(0.001, weight_decay=0.25, fallback=fallback()))
    assert_close(of(got, TABLE), of(trained(fallback()), TABLE), 1e-14)


def test_muon_s_ratio_scales_the_step_and_not_the_decay():
    model, zeros = variables(), [ops.zeros(s, "float64") for s in PATHS.values()]
    start = values(model)
    Muon(0.25, adam_weight_decay=0.5, adam_lr_ratio=0.125).apply(zeros, model)
    assert_close(values(model)[BIAS:], [w * (1 - 0.125) for w in start[BIAS:]])
    got = trained(Muon(0.25, adam_weight_decay=None, adam_lr_ratio=0.125))
    assert_close(of(got, TABLE), of(trained(Adam(0.03125)), TABLE))


@every
def test_config_with_a_fallback(cls):
    optimizer = cls(0.25, fallback=Adam(halving(), 0.5), exclude_layers=["head"])
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is cls and again.get_config() == optimizer.get_config()
    assert type(again.fallback) is Adam and again.fallback.beta_1 == 0.5
    assert_close(of(trained(again), *range(4)), of(trained(optimizer), *range(4)), 0)
    assert cls().get_config()["fallback"] is None


def test_the_rate_of_a_given_fallback_is_saved(tmp_path):
    def model():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        model.compile(Muon(0.25, fallback=SGD(0.5)), "mse", jit_compile=False)
        model.train_on_batch(np.ones((4, 2)), np.ones((4, 3)))
        return model

    saved = model()
    saved.optimizer.fallback.learning_rate = 0.125
    saved.train_on_batch(np.ones((4, 2)), np.ones((4, 3)))
    saved.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert float(again.optimizer.fallback.learning_rate) == 0.125
    for m in (saved, again):
        m.train_on_batch(np.ones((4, 2)), np.zeros((4, 3)))
    assert_close(again.get_weights(), saved.get_weights(), 0)


@every
def test_a_fallback_must_be_one_of_ours(cls):
    with pytest.raises(ValueError, match=f"{cls.__name__}: `fallback` must be"):
        cls(fallback=keras.optimizers.SGD(0.5))


def test_sparse_modes_are_those_of_the_fallback():
    assert [cls().sparse for cls in (Muon, SOAP, Shampoo)] == ["deferred"] * 3
    assert Muon(sparse="lazy").sparse == "lazy"
    assert Muon(fallback=Adam(sparse="lazy")).sparse == "lazy"
    assert Muon(adam_beta_1=0.9, adam_beta_2=0.8).sparse == "lazy"
    with pytest.raises(ValueError, match="Muon: sparse='deferred' is not supported"):
        Muon(fallback=Adam(sparse="lazy"), sparse="deferred")


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("cls", "mode"),
    [(Muon, "lazy"), *((cls, "deferred") for cls in (Muon, SOAP, Shampoo))],
)
def test_sparse_gradients(cls, mode):
    """Embeddings are updated by row, and a matrix as by its dense gradient."""
    import tensorflow as tf

    paths = {"user/embeddings": (40, 2), "dense/kernel": (4, 2)}
    rng = np.random.default_rng(2)
    steps = [
        [(rng.integers(0, n, 3), rng.normal(size=(3, 2))) for n in (40, 4)]
        for _ in range(20)
    ]

    def final(mode, by_row):
        # Deferred Adam is exact but for its epsilon.
        optimizer = cls(halving(), epsilon=1e-30, weight_decay=0.125, sparse=mode)
        model = variables(paths)

        @tf.function(autograph=False)
        def step(*pairs):
            grads = [
                tf.IndexedSlices(g, ids, tf.constant(list(v.shape)))
                for (ids, g), v in zip(pairs, model, strict=True)
            ]
            if not by_row:
                grads = [tf.convert_to_tensor(g) for g in grads]
            optimizer.apply(grads, model)

        for pairs in steps:
            step(*[(tf.constant(ids), tf.constant(g)) for ids, g in pairs])
        optimizer.finalize_variable_values(model)
        state = optimizer._engine.named_row_state()
        assert not any(name.endswith(":1") for name in state)
        return values(model)

    got, want = final(mode, True), final("dense", False)
    assert_close(got[1:], want[1:], 1e-9)
    if mode == "lazy":
        assert differ(got[:1], want[:1])
    else:
        assert_close(got[:1], want[:1], 1e-9)


# The algorithms.


@pytest.mark.parametrize("shape", [(8, 8), (5, 9), (12, 3)])
def test_newton_schulz_makes_singular_values_about_one(shape):
    matrix = np.random.default_rng(0).normal(size=shape)
    u, _, v = np.linalg.svd(matrix, full_matrices=False)
    matrix = (u * np.geomspace(1, 0.01, min(shape))) @ v
    tensors = [ops.convert_to_tensor(x, "float64") for x in (3.4445, -4.7750, 2.0315)]
    got = newton_schulz(
        ops.convert_to_tensor(matrix, "float64"), tensors, 5, tensors[0] * 0
    )
    singular = np.linalg.svd(ops.convert_to_numpy(got), compute_uv=False)
    assert singular.min() > 0.65 and singular.max() < 1.25
    # The classic coefficients converge to the orthogonal factor.
    tensors = [ops.convert_to_tensor(x, "float64") for x in (15 / 8, -10 / 8, 3 / 8)]
    got = newton_schulz(
        ops.convert_to_tensor(matrix, "float64"), tensors, 30, tensors[0] * 0
    )
    assert_close([ops.convert_to_numpy(got)], [u @ v])


def test_muon_scales_with_the_longer_side():
    def step(**options):
        path = {"dense/kernel": (5, 3)}
        optimizer = Muon(0.25, weight_decay=None, **options)
        return trained(optimizer, path)[0][0] - values(variables(path))[0]

    assert_close([step(rms_rate=0.5)], [0.5 * np.sqrt(5) * step(rms_rate=None)])


def powered(matrix, power):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**power) @ vectors.T


@pytest.mark.parametrize("frequency", [1, 3])
def test_shampoo_is_the_paper_s(frequency):
    paths = {"dense/kernel": (5, 3), "conv/kernel": (2, 1, 2, 3), "dense/bias": (3,)}
    optimizer = Shampoo(0.25, 0.125, precondition_frequency=frequency)
    seen = trained(optimizer, paths)
    left, right = [0.125 * np.eye(n) for n in (5, 4, 1)], 0.125 * np.eye(3)
    right, weights = [right] * 3, values(variables(paths))
    for number, grads in enumerate(gradients(paths)):
        for i, gradient in enumerate(grads):
            g = gradient.reshape(matrix_shape(gradient.shape))
            left[i], right[i] = left[i] + g @ g.T, right[i] + g.T @ g
        if number % frequency == 0:
            roots = [
                (powered(a, -1 / 4), powered(b, -1 / 4))
                for a, b in zip(left, right, strict=True)
            ]
            roots[2] = (np.eye(1), powered(right[2], -1 / 2))
        for i, gradient in enumerate(grads):
            g = gradient.reshape(matrix_shape(gradient.shape))
            step = roots[i][0] @ g @ roots[i][1]
            weights[i] = weights[i] - 0.25 * step.reshape(gradient.shape)
        assert_close(seen[number], weights)


def test_shampoo_with_diagonals_only_is_adagrad_for_vectors():
    paths = {"dense/bias": (5,), "scale/value": ()}
    got = trained(Shampoo(0.25, 0.125, max_precond_dim=0), paths)
    want = trained(Adagrad(0.25, 0.0, 0.125), paths)
    assert_close(of(got, 0, 1), of(want, 0, 1))


def test_shampoo_survives_eigenvalues_that_rounding_makes_negative():
    kernel = keras.Variable(np.zeros((30, 2)), dtype="float32")
    optimizer = Shampoo(1.0, epsilon=1e-12)
    gradient = ops.ones((30, 2)) * 1e3
    for _ in range(3):
        optimizer.apply([gradient], [kernel])
    assert np.isfinite(ops.convert_to_numpy(kernel)).all()


def test_soap_without_sides_is_adam_one_step_later():
    soap, adam = SOAP(0.25, max_precond_dim=2), Adam(0.25, 0.95, 0.95, 1e-8)
    soap_model, adam_model = variables(), variables()
    for number, grads in enumerate(gradients()):
        grads = [ops.convert_to_tensor(g, "float64") for g in grads]
        soap.apply(grads[:TABLE], soap_model[:TABLE])
        if number > 0:
            adam.apply(grads[:TABLE], adam_model[:TABLE])
        assert_close(values(soap_model), values(adam_model))


def test_soap_turns_with_the_problem():
    """In a turned basis it makes the turned steps; Adam does not."""
    rng = np.random.default_rng(3)
    q, p = (np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in "qp")

    def final(cls, left, right):
        weights = keras.Variable(np.zeros((3, 3)), dtype="float64", name="kernel")
        optimizer = cls(0.25, 0.5, 0.75)
        if cls is SOAP:
            optimizer.precondition_frequency = 2
        for grads in gradients({"head/kernel": (3, 3)}):
            gradient = ops.convert_to_tensor(left.T @ grads[0] @ right, "float64")
            optimizer.apply([gradient], [weights])
        return left @ ops.convert_to_numpy(weights) @ right.T

    identity = np.eye(3)
    assert_close([final(SOAP, q, p)], [final(SOAP, identity, identity)], 1e-5)
    far = np.abs(final(Adam, q, p) - final(Adam, identity, identity)).max()
    assert far > 0.1


def test_soap_keeps_its_bases_orthogonal():
    optimizer = SOAP(0.25, precondition_frequency=2)
    trained(optimizer)
    for side, lengths in (("left", {KERNEL: 5, SQUARE: 3}), ("right", {KERNEL: 3})):
        for i, length in lengths.items():
            basis = ops.convert_to_numpy(
                optimizer._engine.states[i].slots[f"{side}_basis"]
            )
            assert_close([basis.T @ basis], [np.eye(length)])


@pytest.mark.parametrize(("shape", "near"), [((4, 4), 1e-5), ((12, 2), None)])
def test_soap_by_equal_gradients_is_equal(shape, near):
    """Of a long side, the basis of the null space follows from the last bit."""
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(8, 2, *shape)).astype("float32")

    def path(calls, **options):
        variable, optimizer = keras.Variable(ops.zeros(shape)), SOAP(0.01, **options)
        for gradient in calls:
            optimizer.apply([ops.convert_to_tensor(gradient)], [variable])
        return ops.convert_to_numpy(variable)

    means = parts.mean(axis=1)
    want = path(means)
    got = path(parts.reshape(-1, *shape), gradient_accumulation_steps=2)
    np.testing.assert_array_equal(got, want)
    moved = np.abs(path(np.nextafter(means, np.float32(9))) - want).max()
    # By one unit in the last place: rounding, or about a learning rate a step.
    assert moved < near if near else 1e-3 < moved < 0.1


@pytest.mark.tensorflow
def test_soap_under_xla():
    import tensorflow as tf

    paths = {"head/kernel": (3, 3), "head/bias": (3,)}

    def final(compiled):
        model, optimizer = variables(paths), SOAP(0.25)
        optimizer.build(model)
        step = lambda *grads: optimizer.apply(list(grads), model)  # noqa: E731
        if compiled:
            step = tf.function(step, autograph=False, jit_compile=True)
        for grads in gradients(paths):
            step(*[tf.constant(g) for g in grads])
        return values(model)

    # Eigenvectors are computed by another algorithm there.
    assert_close(final(True), final(False), 1e-6)
