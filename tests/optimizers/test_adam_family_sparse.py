"""Closed forms of Adam's relatives for the steps that a row misses."""

import numpy as np
import pytest
from optimizer_cases import CATALOGUE, name_of
from test_deferred import OPTIONS, assert_close, trajectory

from keras_adaptive.optimizers import AdaBelief, AdEMAMix, RAdam, Yogi

pytestmark = pytest.mark.tensorflow

CLOSED_FORMS = [c for c in CATALOGUE if c.name in ("laprop", "adopt", "yogi")]


@pytest.mark.parametrize("case", CLOSED_FORMS, ids=name_of)
def test_deferred_equals_dense(case):
    """Exact but for the third order of Yogi's epsilon, which is tiny in its case."""
    got = trajectory(case.make(sparse="deferred", **OPTIONS["average"]))
    want = trajectory(case.make(sparse="dense", **OPTIONS["average"]), "eager")
    assert_close(got[-1], want[-1])


def test_yogi_s_missed_steps_follow_a_large_epsilon():
    def final(mode):
        optimizer = Yogi(2**-6, 0.875, 1 - 2**-8, 0.25, 1.0, sparse=mode)
        return trajectory(optimizer, steps=20)[-1]

    dense, deferred, lazy = (final(mode) for mode in ("dense", "deferred", "lazy"))
    off = np.abs(deferred - dense).max()
    assert off < 1e-6
    assert off < np.abs(lazy - dense).max() / 10_000


def test_yogi_from_an_empty_accumulator_stays_finite():
    options = {"use_ema": True, "ema_overwrite_frequency": 3}
    optimizer = Yogi(initial_accumulator_value=0.0, **options)
    assert np.isfinite(trajectory(optimizer, "eager", steps=4)).all()


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize(
    ("beta_2", "how"), [(0.625, "graph"), (0.875, "xla"), (0.999, "graph")]
)
def test_radam_s_missed_steps_are_plain_or_rectified(beta_2, how, option):
    """Rows change their direction together; with β₂ = 0.625 they never do."""

    def make(mode):
        betas = {"beta_1": 0.75, "beta_2": beta_2}
        return RAdam(**betas, epsilon=2**-45, sparse=mode, **OPTIONS[option])

    got, want = trajectory(make("deferred"), how), trajectory(make("dense"), "eager")
    assert_close(got[-1], want[-1])


@pytest.mark.parametrize("steps", range(1, 9))
def test_radam_s_first_steps_move_rows_as_far_as_dense_ones(steps):
    got, want = (
        trajectory(RAdam(0.0625, epsilon=2**-45, sparse=mode), "eager", steps)
        for mode in ("deferred", "dense")
    )
    assert_close(got[-1], want[-1])


@pytest.mark.parametrize("cls", [AdaBelief, AdEMAMix])
def test_without_a_closed_form_it_is_lazy(cls):
    assert cls().sparse == "lazy"
    with pytest.raises(ValueError, match=f"{cls.__name__}.*no closed form"):
        cls(sparse="deferred")
