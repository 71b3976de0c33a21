import csv
import os
import subprocess
import sys

import numpy as np
import pytest

from keras_adaptive.experiments import gallery

SURFACES = gallery.SURFACES.values()


@pytest.fixture(scope="module")
def on_jax(tmp_path_factory):
    """What a process on JAX has written and printed: a gallery, then `AS_APPLY`."""
    folder = tmp_path_factory.mktemp("gallery") / "out"
    done = subprocess.run(
        [sys.executable, "-c", GALLERY + AS_APPLY, folder],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
    )
    return folder, done


GALLERY = """
import sys
from keras_adaptive.experiments import gallery

names = ["--optimizers", "DoG", "Lookahead", "--surfaces", "ravine", "beale"]
assert gallery.main(["--quick", *names, "--output", sys.argv[1]]) == 0
print("drawn")
"""


@pytest.mark.slow
def test_two_optimizers_from_the_command_line(on_jax):
    folder, done = on_jax
    assert "drawn" in done.stdout.splitlines(), done.stderr
    files = sorted(file.name for file in folder.iterdir())
    assert files == ["beale.png", "ravine.png", "table.csv", "table.md"]
    with open(folder / "table.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    entries = {(line["optimizer"], line["surface"]) for line in lines}
    names = ("DoG", "DoG, default", "Lookahead")
    assert entries == {(n, s) for n in names for s in ("ravine", "beale")}
    for line in lines:
        low, median, high = (float(line[key]) for key in ("low", "median", "high"))
        assert 0 <= low <= median <= high
        if line["optimizer"] == "DoG, default":
            assert line["learning_rate"] == "1.0"


AS_APPLY = """
import jax, keras, numpy as np
from keras_adaptive.experiments import gallery

starts = np.array([[0.5, 1.0], [-1.0, 0.25]], "float32")
for name in ("Adam", "DoWG", "ScheduleFreeAdamW", "SAM"):
    make = gallery.OPTIMIZERS[name]
    train = gallery.compiled(make, [gallery.beale, gallery.ravine], steps=5)
    point, optimizer = keras.Variable(starts[1]), make()
    optimizer.build([point])
    optimizer.learning_rate = 0.3
    for _ in range(5):
        optimizer.apply([jax.grad(gallery.ravine)(point.value)], [point])
    optimizer.finalize_variable_values([point])
    paths = train(1, np.array([0.1, 0.3], "float32"), starts)
    np.testing.assert_allclose(paths[1, 1, -1], point, rtol=1e-4, err_msg=name)
"""


@pytest.mark.slow
def test_it_trains_as_apply_does(on_jax):
    _, done = on_jax
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("surface", SURFACES, ids=list(gallery.SURFACES))
def test_surfaces_have_their_minimum_0_there(surface):
    at = np.array(surface.minimum)
    assert abs(surface.function(at)) < 1e-12
    around = surface.starts(1000, seed=3).T
    assert np.min(surface.function(around)) > 0
    near = at[:, None] + np.random.default_rng(0).normal(scale=1e-3, size=(2, 100))
    assert np.min(surface.function(near)) > 0


def test_every_optimizer_can_be_made():
    for name, make in gallery.OPTIMIZERS.items():
        decay = getattr(make(), "weight_decay", None)
        assert not decay, name


def test_another_backend_is_told_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gallery.keras.backend, "backend", lambda: "tensorflow")
    assert gallery.main(["--output", str(tmp_path / "out")]) == 2
    assert "KERAS_BACKEND=jax" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [["--optimizers", "Adan2"], ["--surfaces", "hill"], ["--steps", "0"]],
)
def test_bad_options(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        gallery.parse(arguments, None)
    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err
