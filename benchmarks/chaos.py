"""A study under two drivers on two hosts, while drivers, workers and server are killed.

    python benchmarks/chaos.py --kills 100 --seed 0 --output DIR

Two drivers with different host names run one study with two workers each, against one
MLflow server. At random moments one of them is killed by SIGKILL: a driver, a worker
that is busy, a worker that is idle, or the server. A killed driver or server is started
again. A driver that is refused, since the other one holds the study, is started again
after a second. When all kills are made, the study is finished in peace.

The table says how often what was killed, how many runs there are, how many of them are
lost or double, and the longest silence: the longest time between two lines of a driver
that trains. The exit status is 1 if a run is lost or double, or if the silence reached
10 seconds.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psutil

HOSTS = ("one", "other")
KINDS = ("driver", "busy worker", "idle worker", "server")
LONGEST_SILENCE = 10.0
SEEDS_FOR_EACH_KILL = 5

DRIVER = """
import socket, sys
socket.gethostname = lambda: sys.argv[1]
import keras, numpy as np
from rich.console import Console
from keras_adaptive.commands.options import exit_status
from keras_adaptive.datasets import Dataset, Split
from keras_adaptive.study import Contender, Epochs, Processes, Protocol, Study, Workload

def part(seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, 48)
    return Split((rng.normal(size=(48, 5)) + y[:, None]).astype("float32"), y)

def build(seed):
    glorot = keras.initializers.GlorotUniform(seed=seed)
    dense = keras.layers.Dense(3, kernel_initializer=glorot)
    return keras.Sequential([keras.Input((5,)), dense])

def run():
    workload = Workload(
        "blobs", build, Dataset("blobs", "chaos", part(0), part(1), part(2)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch_size=24, budget=Epochs(60),
    )
    protocol = Protocol(seeds=int(sys.argv[2]), reference="adam")
    contenders = [Contender(each, [0.1]) for each in ("adam", "lion")]
    study = Study("chaos", [workload], contenders, protocol)
    study.run(Processes(2), Console(file=sys.stdout, width=200), retry_failed=True)
    return 0

status = exit_status(run)
sys.stdout.flush()
sys.exit(status)
"""


class Server:
    """The MLflow server."""

    def __init__(self, folder: Path) -> None:
        """Chooses a free port."""
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        """Starts it, and returns at once."""
        store = f"sqlite:///{self._folder}/mlflow.db"
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--port", str(self._port), "--backend-store-uri", store]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        log = (self._folder / "server.log").open("a")
        self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def wait(self) -> None:
        """Waits until it answers."""
        while True:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.1)

    def kill(self) -> None:
        """Kills it with all its processes."""
        assert self._process is not None
        parent = psutil.Process(self._process.pid)
        for each in [*parent.children(recursive=True), parent]:
            each.kill()
        self._process.wait()


class Driver:
    """A driver of the study on one host, which is started whenever it has ended."""

    def __init__(self, host: str, runs: int, folder: Path, uri: str) -> None:
        """Prepares the first start."""
        self.host, self.done, self.refused, self.starts = host, False, 0, 0
        self._command = [sys.executable, "-c", DRIVER, host, str(runs)]
        self._folder = folder / host
        self._folder.mkdir()
        self._environment = {
            **os.environ,
            "KERAS_BACKEND": "torch",
            "OMP_NUM_THREADS": "1",
            "MLFLOW_TRACKING_URI": uri,
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
            "KERAS_ADAPTIVE_LEASE_SECONDS": "6",
            "TMPDIR": str(self._folder),
            "PYTHONUNBUFFERED": "1",
        }
        self.spoke = time.monotonic()
        self.silence = 0.0
        self.in_training = False
        self.process: subprocess.Popen | None = None

    def keep_running(self) -> None:
        """Starts the study again until it is done."""
        while not self.done:
            self.starts += 1
            self.process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert self.process.stdout is not None
            with (self._folder / "log").open("a") as log:
                for line in self.process.stdout:
                    self._heard(line)
                    log.write(f"{time.time():.2f} {line}")
            status = self.process.wait()
            self.in_training = False
            self.refused += status == 2
            waiting = any(self._folder.glob("mlflow-spool/*/*.json"))
            self.done = status == 0 and not waiting
            time.sleep(not self.done)

    def _heard(self, line: str) -> None:
        now = time.monotonic()
        if self.in_training:
            self.silence = max(self.silence, now - self.spoke)
        self.spoke = now
        self.in_training = self.in_training or "blobs," in line

    def workers(self) -> list[psutil.Process]:
        """Returns the processes that make runs."""
        if self.process is None or self.process.poll() is not None:
            return []
        try:
            children = psutil.Process(self.process.pid).children()
            return [each for each in children if "loky" in " ".join(each.cmdline())]
        except psutil.Error:
            return []


def is_busy(worker: psutil.Process) -> bool:
    """Says whether a process computes."""
    before = sum(worker.cpu_times()[:2])
    time.sleep(0.05)
    return sum(worker.cpu_times()[:2]) > before


def kill_one(
    kind: str, drivers: Sequence[Driver], server: Server, rng: random.Random
) -> bool:
    """Kills one process of a kind, if there is one."""
    training = [each for each in drivers if each.in_training]
    if not training:
        return False
    if kind == "server":
        server.kill()
        time.sleep(rng.uniform(0, 1))
        server.start()
        server.wait()
        return True
    if kind == "driver":
        process = rng.choice(training).process
        assert process is not None
        process.kill()
        return True
    workers = [worker for driver in training for worker in driver.workers()]
    rng.shuffle(workers)
    try:
        for worker in workers:
            if is_busy(worker) == (kind == "busy worker"):
                os.kill(worker.pid, signal.SIGKILL)
                return True
    except (psutil.Error, ProcessLookupError):
        pass
    return False


def kept(uri: str) -> Counter[str]:
    """Returns how often each run is kept."""
    import mlflow

    client = mlflow.MlflowClient(uri)
    found = client.get_experiment_by_name("chaos")
    token, keys = None, Counter[str]()
    while True:
        page = client.search_runs(
            [found.experiment_id], "tags.phase != 'study'", page_token=token
        )
        keys.update(run.data.tags.get("key", "no key") for run in page)
        token = page.token
        if not token:
            return keys


def trial(kills: int, seed: int, folder: Path) -> tuple[dict[str, object], bool]:
    """Runs the study while processes are killed.

    Args:
        kills: The number of kills.
        seed: Decides whom, and when.
        folder: Where the store and the logs are kept.

    Returns:
        What was counted, and whether all held.
    """
    rng = random.Random(seed)
    seeds = SEEDS_FOR_EACH_KILL * kills + 10
    server = Server(folder)
    server.start()
    server.wait()
    drivers = [Driver(host, seeds, folder, server.uri) for host in HOSTS]
    threads = [threading.Thread(target=each.keep_running) for each in drivers]
    for thread in threads:
        thread.start()
    killed: Counter[str] = Counter()
    while killed.total() < kills and not all(each.done for each in drivers):
        time.sleep(rng.uniform(0.5, 2))
        kind = rng.choice(KINDS)
        killed[kind] += kill_one(kind, drivers, server, rng)
    for thread in threads:
        thread.join()
    keys = kept(server.uri)
    server.kill()
    expected = 2 * seeds
    silence = max(each.silence for each in drivers)
    counts: dict[str, object] = {
        **{f"kills: {kind}": killed[kind] for kind in KINDS},
        "kills in all": killed.total(),
        "starts of drivers": sum(each.starts for each in drivers),
        "starts refused": sum(each.refused for each in drivers),
        "runs asked for": expected,
        "runs kept": keys.total(),
        "lost": expected - len(keys),
        "double": keys.total() - len(keys),
        "longest silence in seconds": f"{silence:.1f}",
    }
    held = len(keys) == keys.total() == expected and silence < LONGEST_SILENCE
    return counts, held and killed.total() == kills


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the trial and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="keep store and logs there")
    options = parser.parse_args(argv)
    folder = options.output or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    counts, held = trial(options.kills, options.seed, folder.resolve())
    for name, count in counts.items():
        print(f"| {name} | {count} |")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
