"""Adan and MARS, which learn from the difference to the last gradient."""

import pytest
from test_catalogue import assert_close, assert_equal, gradients, trained

from keras_adaptive.optimizers import MARS, Adam, AdamW, Adan

EPSILON = 2**-45
RATE = {"learning_rate": 2**-6, "epsilon": EPSILON}


def final(optimizer, steps=None):
    return trained(optimizer, steps, "float64")


def test_adan_without_differences_is_adam():
    adam = Adam(beta_1=0.75, beta_2=0.875, **RATE)
    got = Adan(beta_1=0.75, beta_2=0.0, beta_3=0.875, **RATE)
    assert_close(final(got), final(adam), 1e-9)
    # Nor are there any between equal gradients.
    equal = gradients(1) * 6
    adam = Adam(beta_1=0.75, beta_2=0.875, **RATE)
    got = Adan(beta_1=0.75, beta_2=0.5, beta_3=0.875, **RATE)
    assert_close(final(got, equal), final(adam, equal), 1e-9)


@pytest.mark.parametrize("no_prox", [False, True], ids=["proximal", "decoupled"])
def test_adan_decays_weights_in_either_way(no_prox):
    zeros = [[0 * g for g in grads] for grads in gradients(4)]
    start = final(Adan(), [])
    got = final(Adan(0.5, weight_decay=0.25, no_prox=no_prox), zeros)
    factor = (1 - 0.125) ** 4 if no_prox else (1 + 0.125) ** -4
    assert_close(got, [factor * w for w in start], 1e-12)


def test_mars_without_correction_is_adamw_on_clipped_gradients():
    betas = {"beta_1": 0.75, "beta_2": 0.875}
    got = MARS(gamma=0.0, weight_decay=0.125, **betas, **RATE)
    want = AdamW(clipnorm=1.0, weight_decay=0.125, **betas, **RATE)
    # `ops.maximum`, in clipping, passes through float32 on PyTorch.
    assert_close(final(got), final(want), 1e-6)
    small = gradients(scale=2**-8)
    assert_close(
        final(got := MARS(gamma=0.0, **RATE), small),
        final(Adam(beta_1=got.beta_1, beta_2=got.beta_2, **RATE), small),
        1e-9,
    )


def test_mars_corrects_by_the_last_gradient():
    first, second = gradients(2, scale=2**-8)
    gamma, beta = 0.5, 0.75
    scale = gamma * beta / (1 - beta)
    corrected = [
        [(1 + scale) * g for g in first],
        [g + scale * (g - f) for f, g in zip(first, second, strict=True)],
    ]
    got = MARS(gamma=gamma, beta_1=beta, beta_2=0.875, **RATE)
    want = Adam(beta_1=beta, beta_2=0.875, **RATE)
    assert_close(final(got, [first, second]), final(want, corrected), 1e-9)


def test_mars_can_leave_vectors_to_adamw():
    vectors = {
        "beta_1_1d": 0.5,
        "beta_2_1d": 0.625,
        "learning_rate_1d_factor": 0.25,
        "weight_decay_1d": 0.5,
    }
    options = {"weight_decay": 0.125, **RATE}
    kernel, bias, matrix = final(MARS(optimize_1d=False, **vectors, **options))
    want = final(MARS(**options))
    assert_equal([kernel, matrix], [want[0], want[2]])
    rate = RATE["learning_rate"] * 0.25
    adamw = AdamW(rate, 0.5, beta_1=0.5, beta_2=0.625, epsilon=EPSILON)
    assert_close([bias], [final(adamw)[1]], 1e-9)


def test_mars_decays_vectors_only_if_only_they_have_a_decay():
    zeros = [[0 * g for g in grads] for grads in gradients(1)]
    start = final(MARS(), [])
    got = final(MARS(0.5, optimize_1d=False, weight_decay_1d=0.25), zeros)
    assert_close(got, [start[0], (1 - 0.125) * start[1], start[2]], 1e-12)
    got = final(MARS(0.5, optimize_1d=False, weight_decay=0.25), zeros)
    assert_close(got, [(1 - 0.125) * w for w in start], 1e-12)


@pytest.mark.tensorflow
def test_lazy_mars_takes_the_norm_of_the_rows_at_hand():
    """And of no others: under XLA there are unused places beside them."""
    from training import distance, trajectory

    eager, xla = (
        trajectory(MARS(gamma=0.5, **RATE), sparse=True, how=how)[-1]
        for how in ("eager", "xla")
    )
    assert distance(xla, eager) < 1e-9
