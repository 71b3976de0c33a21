"""Several replicas of `tf.distribute`: two halves of a CPU, in a process apart."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from replicas import MAKE

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]


@pytest.fixture(scope="module")
def distances():
    script = Path(__file__).with_name("replicas.py")
    run = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", MAKE)
def test_two_replicas_train_as_one_does(distances, name):
    found = distances[name]
    assert found["moved"] > 1e-3
    assert found["from_one_replica"] < 1e-6
    assert found["from_each_other"] == 0


def test_a_tensor_that_all_replicas_pass_is_summed_all_the_same(distances):
    assert distances["one object"] == [-2.0, -2.0]
