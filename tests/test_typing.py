"""A type checker sees the arguments of every optimizer."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
PROGRAM = """
from keras_adaptive.optimizers import SAM, Adam, AdamW, Lookahead, Muon, Yogi

Adam()
Adam(0.01, 0.9, epsilon=1e-8, clipnorm=1.0, sparse="lazy", name="mine")
AdamW(0.001, 0.004, beta_1=0.8)
Yogi(lambda: 0.1, use_ema=True)
Muon(0.01, exclude_layers=["head"], weight_decay=None)
Lookahead(Adam(), sync_period=3)
SAM("adam", 0.1, name="mine")
"""
WRONG = {
    'Adam(beta_1="high")': "beta_1",
    "Adam(clipnorm=[1.0])": "clipnorm",
    'Lookahead(Adam(), sync_period="often")': "sync_period",
}
"""mypy lets unknown names and places pass: Keras's own classes have no types."""


def test_arguments(tmp_path):
    file = tmp_path / "program.py"
    file.write_text(PROGRAM + "\n".join(WRONG), encoding="utf-8")
    options = ["--config-file", ROOT / "pyproject.toml", "--follow-imports=silent"]
    run = subprocess.run(
        [sys.executable, "-m", "mypy", *options, file],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    errors = [line for line in run.stdout.splitlines() if ": error: " in line]
    first = 1 + len(PROGRAM.splitlines())
    for number, (line, name) in enumerate(WRONG.items(), first):
        found = next((e for e in errors if f"program.py:{number}:" in e), "nothing")
        assert name in found, (line, found)
    assert len(errors) == len(WRONG), run.stdout
