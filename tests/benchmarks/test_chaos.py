"""Two kills while two drivers run one study; the script itself makes a hundred."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "chaos.py"


def test_kills_lose_and_double_nothing(tmp_path):
    options = ["--kills", "2", "--seeds", "4", "--output", tmp_path]
    command = [sys.executable, SCRIPT, *options]
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "| lost | 0 |" in ended.stdout, ended.stdout + ended.stderr
    assert "| double | 0 |" in ended.stdout
    assert "| kills in all | 2 |" in ended.stdout
