"""Several devices train as one does, each case in processes of its own."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
# The sum over two halves of a batch rounds otherwise than that over the whole.
ROUNDING = 1e-6


def start(script, *arguments):
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    if script != "jax_mesh.py":
        environment["KERAS_BACKEND"] = "tensorflow"
    return subprocess.Popen(
        [sys.executable, HERE / script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def result(process) -> dict:
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return json.loads(output.splitlines()[-1])


def test_two_replicas(tmp_path):
    found = result(start("mirrored.py", tmp_path))
    assert "sparse='dense'" in found.pop("lazy")
    assert len(found) == 12
    assert {k: v for k, v in found.items() if v > ROUNDING} == {}


def test_two_jax_devices():
    pytest.importorskip("jax")
    found = result(start("jax_mesh.py"))
    whole = found.pop("shardings, data_parallel")
    halves = found.pop("shardings, model_parallel")
    # The table and both slots of Adam.
    assert whole == ["P(None, None)"] * 3
    assert halves == ["P('model', None)"] * 3
    assert len(found) == 9 + 4
    assert {k: v for k, v in found.items() if v > ROUNDING} == {}


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def test_two_workers():
    ports = free_ports(2)
    chief, other = (start("worker.py", number, *ports) for number in (0, 1))
    try:
        found = result(chief)
    finally:
        other.kill()
        other.communicate()
    assert found["AdamW"] < ROUNDING
