"""DoG, LDoG, DoWG, Prodigy, D-Adaptation and COCOB; runs on every backend."""

import keras
import numpy as np
import pytest
from keras import ops
from optimizer_cases import CATALOGUE, name_of
from test_catalogue import apply, assert_close, differ, gradients, trained, variables

from keras_adaptive.optimizers import (
    COCOB,
    SGD,
    Adam,
    DAdaptAdaGrad,
    DAdaptAdam,
    DAdaptSGD,
    DoG,
    DoWG,
    LDoG,
    Prodigy,
)

D_ADAPTED = (DAdaptAdam, DAdaptSGD, DAdaptAdaGrad, Prodigy)
NORMED = (DoG, LDoG, DoWG, *D_ADAPTED)
CASES = [case for case in CATALOGUE if case.cls in (*NORMED, COCOB)]
STANDING = {"d0": 1.0, "growth_rate": 1.0}
"""d is 1 and stays so."""

adapted = pytest.mark.parametrize(
    "case", [case for case in CASES if case.cls in D_ADAPTED], ids=name_of
)


def shared(optimizer, name) -> float:
    return float({v.name: v for v in optimizer.variables}[name])


def seen(optimizer, *names, slope=None, steps=40, start=(0.0, 0.0)):
    """Numbers shared by all variables, and the weights, after each step."""
    weights = keras.Variable(np.array(start), dtype="float64")
    rng, rows = np.random.default_rng(0), []
    for _ in range(steps):
        now = ops.convert_to_numpy(weights)
        gradient = rng.normal(size=now.shape) if slope is None else slope(now)
        apply(optimizer, [weights], [gradient])
        after = ops.convert_to_numpy(weights).copy()
        rows.append((*(shared(optimizer, name) for name in names), after))
    return [np.array(column) for column in zip(*rows, strict=True)]


def towards(target):
    """The gradient of the distance to the target, which is at most 1 long."""
    return lambda now: (now - target) / max(1e-9, np.linalg.norm(now - target))


def downhill():
    """Gradients that all point the same way, so that d grows."""
    return [[np.abs(g) for g in grads] for grads in gradients()]


# Whatever the loss is multiplied by, the weights are the same.

FREE_OF_SCALE = [
    DoG(reps_rel=2**-6, epsilon=0.0),
    LDoG(reps_rel=2**-6, epsilon=0.0),
    DoWG(init_estim_sq_dist=2**-6, epsilon=0.0),
    Prodigy(d0=2**-5, epsilon=0.0),
    DAdaptAdam(d0=2**-5, epsilon=0.0),
    DAdaptSGD(d0=2**-5, momentum=0.5),
    COCOB(epsilon=1e-30),
]


@pytest.mark.parametrize("optimizer", FREE_OF_SCALE, ids=lambda o: type(o).__name__)
def test_scale_of_the_loss_does_not_matter(optimizer):
    config = optimizer.get_config()
    want = trained(type(optimizer).from_config(config))
    got = trained(type(optimizer).from_config(config), gradients(scale=64.0))
    assert_close(got, want)
    assert differ(want, [ops.convert_to_numpy(v) for v in variables()])


# Weight decay is decoupled, also where the paper computes the weights anew from
# their start at every step.


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_weights_decay_while_the_gradient_is_zero(case):
    optimizer, (kernel, *_) = (
        case.make(learning_rate=1.0, weight_decay=0.25),
        variables(),
    )
    before = ops.convert_to_numpy(kernel)
    zeros = np.zeros(kernel.shape)
    for _ in range(3):
        apply(optimizer, [kernel], [zeros])
    scaled_by_d = isinstance(optimizer, (DAdaptAdam, Prodigy))
    factor = (1 - 0.25 * (case.arguments["d0"] if scaled_by_d else 1.0)) ** 3
    assert_close([ops.convert_to_numpy(kernel)], [factor * before])


@pytest.mark.parametrize("cls", NORMED)
def test_sparse_modes_other_than_dense_are_refused(cls):
    assert cls().sparse == "dense"
    for mode in ("lazy", "deferred"):
        with pytest.raises(ValueError, match=f"{cls.__name__}: .*for large tables use"):
            cls(sparse=mode)


# DoG and its relatives.


def test_distance_of_dog_never_shrinks():
    start = np.array([3.0, 4.0])
    optimizer = DoG(reps_rel=2**-8)
    distance, weights = seen(optimizer, "distance", start=start)
    assert distance[0] == pytest.approx(2**-8 * (1 + 5))
    assert (np.diff(distance) >= 0).all() and distance[-1] > distance[0]
    travelled = np.linalg.norm(weights - start, axis=1)
    want = np.maximum.accumulate(np.maximum(travelled[:-1], distance[0]))
    np.testing.assert_allclose(distance[1:], want, rtol=1e-6)


def test_squared_distance_of_dowg_never_shrinks():
    squares, _ = seen(DoWG(), "squared_distance", steps=20)
    assert squares[0] == pytest.approx(1e-4)
    assert (np.diff(squares) >= 0).all() and squares[-1] > squares[0]


def test_ldog_of_one_variable_is_dog():
    options = {"reps_rel": 2**-6, "epsilon": 2**-6}
    (want,) = seen(DoG(0.5, **options))
    (got,) = seen(LDoG(0.5, **options))
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("cls", [DoG, LDoG, DoWG])
def test_distances_are_those_from_the_initial_weights(cls):
    """Not from weights that move along: the slot is a copy."""
    optimizer, model = cls(), variables()
    start = [np.array(ops.convert_to_numpy(v)) for v in model]
    for grads in gradients():
        apply(optimizer, model, grads)
    kept = [
        ops.convert_to_numpy(optimizer._engine.states[i].slots["start"])
        for i in range(3)
    ]
    for got, want, now in zip(kept, start, model, strict=True):
        np.testing.assert_array_equal(got, want)
        assert (ops.convert_to_numpy(now) != want).any()


# D-Adaptation and Prodigy.


@adapted
def test_d_grows_and_by_no_more_than_asked(case):
    optimizer = case.make(learning_rate=1.0, d0=1e-3, growth_rate=1.25)
    d, _ = seen(optimizer, "d", slope=towards(np.array([3.0, 4.0])), steps=40)
    growth = d[1:] / d[:-1]
    assert (growth >= 1).all() and growth.max() > 1
    # Prodigy's first step away from d0 is not limited.
    first = np.argmax(d > d[0])
    assert growth[first:].max() <= 1.25 * (1 + 1e-6)


def test_d_of_sgd_stays_below_the_distance():
    """As the theory has it for convex functions."""
    target = np.array([3.0, 4.0])
    d, weights = seen(DAdaptSGD(d0=1e-3), "d", slope=towards(target), steps=60)
    assert 1 < d[-1] <= 5
    assert np.linalg.norm(weights.mean(0) - target) < 2.5


def test_d_of_adagrad_is_that_of_its_authors():
    """The last numbers are those of dadaptation 3.2, to its rounding."""
    slope = np.linspace(0.1, 1, 10)
    d, weights = seen(
        DAdaptAdaGrad(), "d", slope=lambda w: slope * w, steps=201, start=np.ones(10)
    )
    np.testing.assert_allclose(d[-1], 0.98356067, rtol=1e-4)
    np.testing.assert_allclose(
        (slope * weights[-1] ** 2).sum() / 2, 7.1983e-8, rtol=1e-3
    )
    assert d[-1] < 1  # The largest distance of an entry to the solution.


def test_d_of_adam_is_no_lower_bound_of_the_distance():
    """The number is that of dadaptation 3.2; the documentation names it."""
    start = np.full(10, 0.1)
    d, _ = seen(DAdaptAdam(), "d", slope=lambda w: w, steps=60, start=start)
    assert d[-1] == pytest.approx(0.29352, rel=1e-4)


@pytest.mark.parametrize("momentum", [0.0, 0.75])
def test_variables_without_a_gradient_keep_their_share_of_adagrads_sums(momentum):
    """As if their gradient had been zero."""
    zero, none = (
        DAdaptAdaGrad(d0=2**-5, momentum=momentum, epsilon=2**-6) for _ in range(2)
    )
    want, got = variables(), variables()
    none.build(got)
    for step, grads in enumerate(downhill()):
        absent = step % 3
        apply(zero, want, [g * (i != absent) for i, g in enumerate(grads)])
        left = [i for i in range(3) if i != absent]
        apply(none, [got[i] for i in left], [grads[i] for i in left])
    assert shared(none, "d") == pytest.approx(shared(zero, "d"), rel=1e-6)
    assert shared(zero, "d") > 2**-5


# At rate 0 nothing moves, and afterwards training goes on as if nothing had been.


@pytest.mark.parametrize("name", ["dadapt-adagrad", "dadapt-adam", "dadapt-sgd"])
@pytest.mark.parametrize("resting", [range(3), range(5, 9)], ids=["first", "later"])
def test_steps_with_rate_0_change_nothing(name, resting):
    (case,) = (case for case in CASES if case.name == name)
    want, got = (case.make(learning_rate=1.0, weight_decay=0.125) for _ in range(2))
    still, moved = variables(), variables()
    for step, grads in enumerate([*downhill(), *downhill()]):
        want.learning_rate = 0.0 if step in resting else 1.0
        before = [ops.convert_to_numpy(v) for v in still]
        apply(want, still, grads)
        if step not in resting:
            apply(got, moved, grads)
            continue
        for variable, value in zip(still, before, strict=True):
            np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)
    assert_close(
        [ops.convert_to_numpy(v) for v in still],
        [ops.convert_to_numpy(v) for v in moved],
    )
    assert shared(want, "d") == shared(got, "d") > 2**-5


ADAM = {"beta_1": 0.875, "beta_2": 0.75, "epsilon": 2**-10}


def test_adam_is_left_of_prodigy_when_d_stands_still():
    got = trained(Prodigy(2**-6, **ADAM, **STANDING, use_bias_correction=True))
    assert_close(got, trained(Adam(2**-6, **ADAM)))


def test_adam_is_left_of_dadapt_adam_when_d_stands_still():
    options = {**ADAM, **STANDING, "weight_decay": 0.125}
    got = trained(DAdaptAdam(2**-6, **options))
    assert_close(got, trained(Prodigy(2**-6, **options)))


@pytest.mark.parametrize("momentum", [0.0, 0.75])
def test_sgd_is_left_when_d_stands_still(momentum):
    got = trained(DAdaptSGD(2**-4, momentum=momentum, **STANDING))
    norm = np.sqrt(sum((g**2).sum() for g in gradients()[0]))
    rate = 2**-4 * (1 - momentum) / norm
    assert_close(got, trained(SGD(rate, momentum=momentum)))


# COCOB.


def test_first_step_of_cocob():
    (weights,) = seen(COCOB(alpha=50.0), slope=lambda now: np.array([3.0, -1e-4]))
    np.testing.assert_allclose(weights[0], [-1 / 50, 1 / 50], rtol=1e-6)


def test_learning_rate_of_cocob_scales_the_steps():
    (one,) = seen(COCOB())
    (half,) = seen(COCOB(0.5))
    np.testing.assert_allclose(half, 0.5 * one, rtol=1e-6, atol=1e-9)


@pytest.mark.tensorflow
def test_deferred_cocob_follows_dense():
    """Exact; without weight decay nothing has to be made up for, nor kept."""
    from test_deferred import trajectory

    options = {"weight_decay": 0.01, "use_ema": True}
    got = trajectory(COCOB(sparse="deferred", **options), steps=20)[-1]
    want = trajectory(COCOB(sparse="dense", **options), "eager", steps=20)[-1]
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-11)
    plain = COCOB(sparse="deferred")
    trajectory(plain, "eager", steps=1)
    assert 0 not in plain._engine.rows.kept.clocks
