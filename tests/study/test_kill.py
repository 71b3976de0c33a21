"""A study whose driver is killed goes on as if nothing had happened."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RUNS = 30
KILLS = 10


class Driver:
    """The process of `driver.py`, which imports everything once for all tests."""

    def __init__(self):
        self.folder = None
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("driver.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1"},
        )

    def start(self, name, workers=0, runner="fit"):
        """Starts the study and returns the id of its process."""
        self._process.stdin.write(f"{name} {workers} {runner} {self.folder}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("started"):
                return int(line.split()[1])
        raise AssertionError("the driver ended")

    def lines(self):
        """Yields what the study prints, until its process has ended."""
        for line in self._process.stdout:
            if line.startswith("ended"):
                self.status = int(line.split()[1])
                return
            yield line

    def runs(self):
        """Yields a line for every run that ends."""
        return (line for line in self.lines() if f"/{RUNS} blobs" in line)

    def close(self):
        self._process.stdin.close()
        self._process.wait()


@pytest.fixture(scope="module")
def process():
    driver = Driver()
    yield driver
    driver.close()


@pytest.fixture
def driver(process, store):
    process.folder = store[0]
    return process


def kept(client, name):
    """The runs of a study by their keys, without what took time."""
    found = client.get_experiment_by_name(name)
    runs = client.search_runs([found.experiment_id], "tags.phase != 'study'")
    assert {run.info.status for run in runs} == {"FINISHED"}
    by_key = {
        run.data.tags["key"]: {
            key: value
            for key, value in run.data.metrics.items()
            if not key.endswith("_seconds")
        }
        for run in runs
    }
    assert len(by_key) == len(runs)
    return by_key


@pytest.mark.slow
def test_ten_kills_lose_and_double_nothing(driver, store):
    driver.start("whole")
    assert len(list(driver.runs())) == RUNS
    expected = kept(store[1], "whole")
    assert len(expected) == RUNS

    rng = random.Random(0)
    # The last runs could be over before the kill comes.
    moments = sorted(rng.sample(range(1, RUNS - 5), KILLS))
    printed = 0
    for moment in moments:
        process = driver.start("killed")
        lines = driver.runs()
        while printed < moment:
            next(lines)
            printed += 1
        time.sleep(rng.uniform(0, 0.1))
        os.kill(process, signal.SIGKILL)
        printed += len(list(lines))
    driver.start("killed")
    printed += len(list(driver.runs()))
    assert kept(store[1], "killed") == expected
    # Each is printed after its status is written: none is made twice, and a kill may
    # come between the two.
    assert RUNS - KILLS <= printed <= RUNS


@pytest.mark.slow
def test_a_kill_between_two_runs_of_a_pack(driver, store):
    pytest.importorskip("jax")
    driver.start("whole", runner="compiled")
    assert len(list(driver.runs())) == RUNS
    expected = kept(store[1], "whole")
    process = driver.start("killed", runner="compiled")
    lines = driver.runs()
    for _ in range(3):
        next(lines)
    os.kill(process, signal.SIGKILL)
    before = 3 + len(list(lines))
    assert before < RUNS
    driver.start("killed", runner="compiled")
    after = len(list(driver.runs()))
    assert RUNS - 1 <= before + after <= RUNS
    found = kept(store[1], "killed")
    assert found.keys() == expected.keys()
    for key, numbers in found.items():
        assert numbers == pytest.approx(expected[key], rel=1e-6)


def study_status(client, name):
    found = client.get_experiment_by_name(name)
    (run,) = client.search_runs([found.experiment_id], "tags.phase = 'study'")
    return run.info.status


def scratch_folders(folder):
    return list(folder.glob("keras-adaptive-*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_stops_processes_and_says_how_to_go_on(driver, store, number, status):
    process = driver.start("stopped", workers=1)
    lines = driver.lines()
    ended = (line for line in lines if f"/{RUNS} blobs" in line)
    for _ in range(5):
        next(ended)
    os.kill(process, number)
    rest = list(lines)
    assert driver.status == status
    assert study_status(store[1], "stopped") == "KILLED"
    assert not scratch_folders(store[0])
    assert any("Run the same study again to go on" in line for line in rest)
    done = len(kept(store[1], "stopped"))
    assert 5 <= done < RUNS
    driver.start("stopped")
    assert len(list(driver.runs())) == RUNS - done
    assert len(kept(store[1], "stopped")) == RUNS


@pytest.mark.slow
def test_the_data_of_a_killed_driver_are_removed_at_the_next_start(driver, store):
    process = driver.start("killed", workers=1)
    next(driver.runs())
    (left,) = scratch_folders(store[0])
    assert list(left.glob("*.joblib"))
    os.kill(process, signal.SIGKILL)
    list(driver.lines())
    assert driver.status == -signal.SIGKILL
    assert left.exists()
    process = driver.start("killed", workers=1)
    next(driver.runs())
    (own,) = scratch_folders(store[0])
    assert own != left
    os.kill(process, signal.SIGTERM)
    list(driver.lines())
    assert not scratch_folders(store[0])
