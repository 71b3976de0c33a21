"""A study under two drivers on two hosts, while drivers, workers and server are killed.

    python benchmarks/chaos.py --kills 100 --seed 0 --output DIR

Two drivers with different host names run one study with two workers each, against one
MLflow server. At random moments one of them is killed by SIGKILL: a driver, a worker
that is busy, a worker that is idle, or the server. A killed driver or server is started
again. A driver that is refused, since the other one holds the study, is started again
after three seconds. A study that is done before all kills are made is asked for more
seeds. When all kills are made, the study is finished in peace.

The table says how often what was killed, how many runs there are, how many of them are
lost or double, and the longest silence: the longest time between two lines of a driver
that trains, and how much of the processors other programs took meanwhile. The exit
status is 1 if a run is lost or double, or if the silence reached 10 seconds.
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
from dataclasses import dataclass
from pathlib import Path

import psutil

HOSTS = ("one", "other")
KINDS = ("driver", "busy worker", "idle worker", "server")
LONGEST_SILENCE = 10.0
SECONDS_BEFORE_RESTART = 3

DRIVER = """
import os, signal, socket, sys
socket.gethostname = lambda: sys.argv[1]
import keras, numpy as np
from rich.console import Console
from keras_adaptive.commands.options import exit_status
from keras_adaptive.datasets import Dataset, Split
from keras_adaptive.study import Contender, Epochs, Processes, Protocol, Study, Workload
from keras_adaptive.study.ledger import mlflow_ledger  # imported once for all
from keras_adaptive.study.ledger.reach.graph import describe

def part(seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, 48)
    return Split((rng.normal(size=(48, 5)) + y[:, None]).astype("float32"), y)

def build(seed):
    glorot = keras.initializers.GlorotUniform(seed=seed)
    dense = keras.layers.Dense(3, kernel_initializer=glorot)
    return keras.Sequential([keras.Input((5,)), dense])

def run(seeds):
    workload = Workload(
        "blobs", build, Dataset("blobs", "chaos", part(0), part(1), part(2)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch_size=24, budget=Epochs(60),
    )
    protocol = Protocol(seeds=seeds, reference="adam")
    contenders = [Contender(each, [0.1]) for each in ("adam", "lion")]
    study = Study("chaos", [workload], contenders, protocol)
    study.run(
        Processes(2),
        Console(file=sys.stdout, width=200),
        retry_failed=True,
        runner="fit",
    )
    return 0

describe(keras.optimizers.SGD())  # Keras imports what it needs for that
for line in sys.stdin:
    child = os.fork()
    if child:
        print("started", child)
        print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        continue
    signal.signal(signal.SIGINT, signal.default_int_handler)
    status = exit_status(lambda: run(int(line)))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
"""


@dataclass(frozen=True)
class Silence:
    """A time in which a driver said nothing.

    Args:
        since: Its start, as `time.monotonic` tells it.
        until: Its end.
        after: The line before it.
        before: The line after it.
    """

    since: float = 0.0
    until: float = 0.0
    after: str = ""
    before: str = ""

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.until - self.since


class Load:
    """How much of the processors other programs take, measured every second."""

    def __init__(self) -> None:
        """Begins to measure."""
        self._samples: list[tuple[float, float]] = []
        self._ended = threading.Event()
        threading.Thread(target=self._measure, daemon=True).start()

    def _measure(self) -> None:
        own: dict[int, float] = {}
        before: tuple[float, float] | None = None
        while not self._ended.wait(1):
            now = {each.pid: _seconds(each) for each in _family()}
            used = sum(now[pid] - own.get(pid, 0.0) for pid in now)
            own = now
            times = psutil.cpu_times()
            busy = sum(times[:8]) - times.idle - times.iowait
            if before is not None:
                others = max(0.0, busy - before[1] - used) / psutil.cpu_count()
                self._samples.append((before[0], others))
            before = time.monotonic(), busy

    def share(self, since: float, until: float) -> float:
        """Returns the share of the processors that other programs took."""
        inside = [busy for at, busy in self._samples if since <= at <= until]
        return min(1.0, sum(inside) / max(until - since, 1.0))

    def end(self) -> None:
        """Measures no more."""
        self._ended.set()


def _family() -> list[psutil.Process]:
    this = psutil.Process()
    return [this, *this.children(recursive=True)]


def _seconds(process: psutil.Process) -> float:
    try:
        return sum(process.cpu_times()[:2])
    except psutil.Error:
        return 0.0


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
        self._process = subprocess.Popen(
            command,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=log,
        )

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


class Asked:
    """How many seeds the study is asked for, and whether that is the last word."""

    def __init__(self, seeds: int) -> None:
        """Begins with some."""
        self.seeds, self.final = seeds, False


class Driver:
    """A driver of the study on one host, which is started whenever it has ended.

    One process of the host imports everything once. A driver is its child.
    """

    def __init__(self, host: str, asked: Asked, folder: Path, uri: str) -> None:
        """Starts the process of the host."""
        self.host, self.refused, self.starts, self.finished = host, 0, 0, 0
        self.in_training = False
        self.pid: int | None = None
        self.silence = Silence()
        self._spoke, self._last = 0.0, ""
        self._asked = asked
        self._folder = folder / host
        self._folder.mkdir()
        environment = {
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
        self._host = subprocess.Popen(
            [sys.executable, "-c", DRIVER, host],
            cwd=self._folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def keep_running(self) -> None:
        """Starts the study again until all that is asked for is done."""
        assert self._host.stdin is not None
        while not (self._asked.final and self.finished == self._asked.seeds):
            self.starts += 1
            seeds = self._asked.seeds
            self._host.stdin.write(f"{seeds}\n")
            self._host.stdin.flush()
            status = self._listen()
            self.refused += status == 2
            waiting = any(self._folder.glob("mlflow-spool/*/*.json"))
            if status == 0 and not waiting:
                self.finished = seeds
            time.sleep(SECONDS_BEFORE_RESTART)
        self._host.stdin.close()
        self._host.wait()

    def _listen(self) -> int:
        """Hears all that a driver says, and returns its exit status."""
        assert self._host.stdout is not None
        with (self._folder / "log").open("a") as log:
            for line in self._host.stdout:
                log.write(f"{time.time():.2f} {line}")
                log.flush()
                match line.split():
                    case ["started", child]:
                        self.pid = int(child)
                    case ["ended", status]:
                        self.pid, self.in_training = None, False
                        return int(status)
                    case _:
                        self._heard(line.strip())
        raise RuntimeError(f"The process of host {self.host} has ended.")

    def _heard(self, line: str) -> None:
        now = time.monotonic()
        if self.in_training:
            silence = Silence(self._spoke, now, self._last, line)
            self.silence = max(self.silence, silence, key=lambda each: each.seconds)
        self._spoke, self._last = now, line
        self.in_training = self.in_training or "blobs," in line

    def workers(self) -> list[psutil.Process]:
        """Returns the processes that make runs."""
        if self.pid is None:
            return []
        try:
            children = psutil.Process(self.pid).children()
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
        if (pid := rng.choice(training).pid) is None:
            return False
        os.kill(pid, signal.SIGKILL)
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


def trial(
    kills: int, seeds: int, seed: int, minutes: float, folder: Path
) -> tuple[dict[str, object], bool]:
    """Runs the study while processes are killed.

    Args:
        kills: The number of kills.
        seeds: The seeds of the study, at first and whenever it is asked for more.
        seed: Decides whom, and when.
        minutes: After so many minutes, nothing more is killed.
        folder: Where the store and the logs are kept.

    Returns:
        What was counted, and whether all held.
    """
    rng = random.Random(seed)
    server, load, asked = Server(folder), Load(), Asked(seeds)
    server.start()
    server.wait()
    drivers = [Driver(host, asked, folder, server.uri) for host in HOSTS]
    threads = [threading.Thread(target=each.keep_running) for each in drivers]
    for thread in threads:
        thread.start()
    killed: Counter[str] = Counter()
    end = time.monotonic() + minutes * 60
    while killed.total() < kills and time.monotonic() < end:
        time.sleep(rng.uniform(0.5, 2))
        if max(each.finished for each in drivers) == asked.seeds:
            asked.seeds += seeds
        kind = rng.choice(KINDS)
        if kill_one(kind, drivers, server, rng):
            killed[kind] += 1
            print(f"kill {killed.total()}: {kind}", file=sys.stderr, flush=True)
    asked.final = True
    for thread in threads:
        thread.join()
    keys = kept(server.uri)
    server.kill()
    load.end()
    expected = 2 * asked.seeds
    longest = max((each.silence for each in drivers), key=lambda each: each.seconds)
    silence, share = longest.seconds, load.share(longest.since, longest.until)
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
        "processors taken by other programs meanwhile": f"{share:.0%}",
        "line before the silence": longest.after,
        "line after the silence": longest.before,
    }
    held = len(keys) == keys.total() == expected and silence < LONGEST_SILENCE
    return counts, held and killed.total() == kills


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the trial and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=20, help="asked for at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=240, help="then kill no more")
    parser.add_argument("--output", type=Path, help="keep store and logs there")
    options = parser.parse_args(argv)
    folder = options.output or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    chosen = options.kills, options.seeds, options.seed, options.minutes
    counts, held = trial(*chosen, folder.resolve())
    for name, count in counts.items():
        print(f"| {name} | {count} |")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
