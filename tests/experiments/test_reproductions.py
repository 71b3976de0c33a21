import math
from functools import partial

import keras
import numpy as np
import pytest

from keras_adaptive import optimizers
from keras_adaptive.experiments import reproductions
from keras_adaptive.experiments.reproductions import (
    Absent,
    Check,
    descend,
    wilson_examples,
)


def missed(checks):
    return [check for check in checks if not check.hit]


@pytest.mark.parametrize("seed", range(3))
def test_wilson(seed):
    checks = list(reproductions.wilson(None, seed=seed))
    assert len(checks) == 5
    assert missed(checks) == []


def test_wilson_s_solutions():
    """SGD's is the one of least norm; Adam's has weights of one size."""
    y = np.array([1, 1, 1, 1, -1, 1, 1, -1], "float32")
    x = wilson_examples(y, 0, 3 + 5 * len(y)).toarray()

    def slope(step, weights):
        return 2 * x.T @ (x @ weights - y) / len(y)

    sgd = descend(keras.optimizers.SGD(0.1), slope, x.shape[1], 1_000)
    np.testing.assert_allclose(sgd, np.linalg.pinv(x) @ y, atol=1e-4)
    adam = descend(optimizers.Adam(0.01, epsilon=1e-12), slope, x.shape[1], 300)
    np.testing.assert_allclose(adam, np.sign(x.T @ y) / 4, atol=1e-4)


@pytest.mark.slow
def test_reddi():
    checks = list(reproductions.reddi(None))
    assert len(checks) == 4
    assert missed(checks) == []


def reddi_by_hand(rounds, amsgrad):
    """Position and average regret by the formulas, in float64."""
    x = v = top = total = 0.0
    for t in range(1, rounds + 1):
        cost = 3 if t % 3 == 1 else -1
        total += cost * x + cost
        v = 0.1 * v + 0.9 * cost**2
        top = max(top, v) if amsgrad else v
        step = reproductions.STEP / math.sqrt(t) * math.sqrt(1 - 0.1**t)
        x = min(max(x - step * cost / (math.sqrt(top) + 1e-7), -1), 1)
    return x, total / rounds


def test_reddi_s_paths():
    adam, amsgrad, *_ = reproductions.reddi(None, rounds=3_000)
    for check, ams in ((adam, False), (amsgrad, True)):
        x, regret = reddi_by_hand(3_000, ams)
        assert check.measured == f"x = {x:.3f}, average regret {regret:.4f}"


@pytest.mark.slow
@pytest.mark.parametrize("name", list(reproductions.REPRODUCTIONS)[2:])
def test_on_real_data(name, real_data):
    checks = list(reproductions.REPRODUCTIONS[name](real_data))
    assert checks
    assert missed(checks) == []


@pytest.mark.parametrize("name", list(reproductions.REPRODUCTIONS)[2:])
def test_data_that_is_not_there(name, tmp_path):
    reproduction = reproductions.REPRODUCTIONS[name]
    with pytest.raises(Absent, match="needs --data-home DIR with"):
        next(reproduction(None))
    with pytest.raises(Absent, match="does not exist"):
        next(reproduction(tmp_path))


def outcome(hit, data_home):
    yield Check("a claim", "1", "2", hit)


def absent(data_home):
    raise Absent("no such data")
    yield


@pytest.mark.parametrize(
    ("checks", "status", "words"),
    [
        ([True, True], 0, "hit"),
        ([True, False], 1, "missed"),
        ([None], 0, "no such data"),
        ([None, False], 1, "missed"),
    ],
)
def test_exit_status(monkeypatch, capsys, checks, status, words):
    made = {
        str(number): absent if hit is None else partial(outcome, hit)
        for number, hit in enumerate(checks)
    }
    monkeypatch.setattr(reproductions, "REPRODUCTIONS", made)
    assert reproductions.main([]) == status
    assert words in capsys.readouterr().out


def test_bad_data_is_an_error(tmp_path, capsys):
    assert reproductions.main(["--data-home", str(tmp_path / "none")]) == 2
    assert "is not a folder" in capsys.readouterr().err


def test_damaged_data_is_an_error(tmp_path, monkeypatch, capsys):
    (tmp_path / "a9a.bz2").write_bytes(b"not bz2")
    (tmp_path / "a9a.t.bz2").write_bytes(b"not bz2")
    monkeypatch.setattr(reproductions, "REPRODUCTIONS", {"a9a": reproductions.a9a})
    assert reproductions.main(["--data-home", str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err
