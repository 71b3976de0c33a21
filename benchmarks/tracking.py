"""What MLflow costs a study: writing runs, and finding those that are done.

    python -m benchmarks.tracking

The runs are made up. They go to MLflow's default, an SQLite file, and to MLflow's
server on PostgreSQL, if that is installed. Each measurement has a process of its own. A
compiled study shows how long its process writes runs in all.
"""

import itertools
import math
import os
import resource
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from unittest import mock

import numpy as np
import pandas as pd

from benchmarks import backends, harness, servers, study

if TYPE_CHECKING:
    from keras_adaptive.study.ledger.mlflow_ledger import Ledger
    from keras_adaptive.study.ledger.record import Phase, Record

RATES = [0.01, 0.001, 0.003, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]
TUNING_SEEDS, JUDGING_SEEDS = 2, 7
ROUND = len(RATES) * TUNING_SEEDS + JUDGING_SEEDS
EPOCHS, POINTS = 10, 10
NAME = "benchmark"


class Scale(NamedTuple):
    """The runs of a benchmark, in rounds of 25 for each contender on each workload.

    Args:
        workloads: The number of workloads.
        contenders: The number of contenders.
        rounds: After which rounds to measure.
    """

    workloads: int
    contenders: int
    rounds: tuple[int, ...]

    def size(self, rounds: int) -> int:
        """Returns the number of runs of so many rounds."""
        return self.workloads * self.contenders * ROUND * rounds

    def runs(self, rounds: Iterable[int]) -> Iterator["Record"]:
        """Yields the runs of some rounds."""
        for number, workload, contender in itertools.product(
            rounds, range(self.workloads), range(self.contenders)
        ):
            whose = f"workload {workload}", f"contender {contender}"
            tuning = range(number * TUNING_SEEDS, (number + 1) * TUNING_SEEDS)
            judging = range(number * JUDGING_SEEDS, (number + 1) * JUDGING_SEEDS)
            for seed, rate in itertools.product(tuning, RATES):
                yield made_up(*whose, "tune", rate, seed)
            for seed in judging:
                yield made_up(*whose, "compare", RATES[0], seed)


SCALE, QUICK_SCALE = Scale(4, 10, (1, 10)), Scale(1, 2, (1, 2))


def made_up(
    workload: str, contender: str, phase: "Phase", rate: float, seed: int
) -> "Record":
    """Returns a run with a random curve."""
    from keras_adaptive.study.design.setting import Setting
    from keras_adaptive.study.ledger.fingerprint import described, digest, machine
    from keras_adaptive.study.ledger.record import Point, Record

    key = digest([workload, contender, phase, rate, seed])
    random = np.random.default_rng(int(key, 16))
    points = []
    for step in range(1, EPOCHS * POINTS + 1):
        loss, accuracy = map(float, random.random(2, dtype="float32"))
        metrics = {"train_loss": loss, "learning_rate": rate}
        if step % POINTS == 0:
            metrics |= {"train_accuracy": accuracy, "epoch": step / POINTS}
            metrics |= {"val_loss": loss / 2, "val_accuracy": accuracy / 2}
        points.append(Point(step, math.nan, 1_000 * step, metrics))
    numbers = {"initial_val_loss": 2.3, "best_val_accuracy": accuracy}
    numbers["state_per_weight"] = 2.0
    for part in ("final_train", "final_val", "test"):
        numbers |= {f"{part}_loss": loss, f"{part}_accuracy": accuracy}
    return Record(
        key=key,
        workload=workload,
        contender=contender,
        setting=Setting(rate),
        phase=phase,
        seed=seed,
        metric="accuracy",
        direction="max",
        status="finished",
        reason="",
        started=1_600_000_000_000,
        ended=1_600_000_000_100,
        params={
            **{"data": "made up", "data_digest": "d", "data_source": "made here"},
            **{"batch_size": "32", "steps": str(EPOCHS * POINTS)},
            **described(),
            **machine(),
            **{f"optimizer.{number}": "0.9" for number in range(20)},
        },
        numbers=numbers,
        curve=tuple(points),
    )


def write(uri: str, folder: str, scale: Scale, rounds: Sequence[int]) -> float:
    """Writes the runs of some rounds, and returns the milliseconds of a run."""
    records = list(scale.runs(rounds))
    with ledger_at(uri, folder) as ledger:
        start = time.perf_counter()
        for record in records:
            ledger.write(record)
        return 1_000 * (time.perf_counter() - start) / len(records)


def resume(uri: str, folder: str) -> dict[str, float]:
    """Returns the seconds of resuming and of judging, and the megabytes of both."""
    from keras_adaptive.study.analysis.run_table import RunTable
    from keras_adaptive.study.results import Results

    before = megabytes()
    start = time.perf_counter()
    with ledger_at(uri, folder) as ledger:
        records = list(ledger.values())
        found = time.perf_counter()
    whose = dict.fromkeys((each.workload, each.contender) for each in records)
    tuned = pd.DataFrame(list(whose), columns=["workload", "contender"])
    tuned = tuned.assign(trials=len(RATES), setting="", learning_rate=RATES[0])
    closed = time.perf_counter()
    table = RunTable(records, "contender 0", tuned, {})
    Results(table, "", NAME).verdicts()
    return {
        "resume": found - start,
        "judge": time.perf_counter() - closed,
        "megabytes": megabytes() - before,
    }


@contextmanager
def ledger_at(uri: str, folder: str) -> Iterator["Ledger"]:
    """Opens the ledger of a store, with its spool in a folder."""
    from keras_adaptive.study.ledger.connection import quiet_mlflow
    from keras_adaptive.study.ledger.mlflow_ledger import Ledger

    os.environ["MLFLOW_TRACKING_URI"] = uri
    os.chdir(folder)
    with quiet_mlflow(), Ledger(NAME, Path("spool")).open(NAME, {}) as ledger:
        yield ledger


def megabytes() -> float:
    """Returns the most memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000


@contextmanager
def stores(folder: Path) -> Iterator[dict[str, str]]:
    """Yields the addresses of the stores by their names."""
    found = {"SQLite": f"sqlite:///{folder}/mlflow.db"}
    if reason := servers.missing():
        print(f"Without a server: {reason}.")
        yield found
        return
    with servers.server_on_postgres() as (server, _):
        yield found | {"server on PostgreSQL": server.uri}


def measure(scale: Scale) -> pd.DataFrame:
    """Measures writing, resuming and judging on all stores."""
    rows = []
    with tempfile.TemporaryDirectory() as name, stores(Path(name)) as uris:
        for store, uri in uris.items():
            for before, rounds in itertools.pairwise((0, *scale.rounds)):
                new = range(before, rounds)
                written = harness.in_fresh_process(write, uri, name, scale, new)
                row = {"store": store, "runs": scale.size(rounds), "write": written}
                row |= harness.in_fresh_process(resume, uri, name)
                print(row, flush=True)
                rows.append(row)
    return pd.DataFrame(rows)


def waited(name: str, folder: str) -> tuple[int, float, float]:
    """Makes a compiled study.

    Args:
        name: The problem.
        folder: Where the study is made.

    Returns:
        The number of its runs, its seconds, and those in which its process wrote runs.
    """
    from keras_adaptive.study.ledger.mlflow_ledger import Ledger

    write_one, seconds = Ledger.write, []

    def timed(ledger: "Ledger", record: "Record") -> None:
        start = time.perf_counter()
        write_one(ledger, record)
        seconds.append(time.perf_counter() - start)

    start = time.perf_counter()
    with mock.patch.object(Ledger, "write", timed):
        made = study.study(name, folder, f"{folder}/programs")
    return made, time.perf_counter() - start, sum(seconds)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = harness.parser(__doc__).parse_args(argv)
    measured = measure(QUICK_SCALE if options.quick else SCALE)
    (problem, *_) = study.QUICK_PROBLEMS if options.quick else study.PROBLEMS
    with tempfile.TemporaryDirectory() as folder:
        compiled = backends.in_process_of("tensorflow", waited, problem.name, folder)
    report(measured, *compiled).publish(options)


def report(
    measured: pd.DataFrame, made: int, seconds: float, writing: float
) -> harness.Report:
    """Returns the measurements in words and a table.

    Args:
        measured: What `measure` returns.
        made: The runs of a compiled study.
        seconds: Its seconds.
        writing: The seconds in which its process wrote runs.
    """
    table = harness.listing(
        measured,
        {
            "store": lambda row: row.store,
            "runs": lambda row: f"{row.runs:,}",
            "writing a run, ms": lambda row: harness.number(row.write),
            "resuming, s": lambda row: harness.number(row.resume),
            "tables and verdicts, s": lambda row: harness.number(row.judge),
            "memory, MB": lambda row: harness.number(row.megabytes),
        },
    )
    page = (
        f"Runs with {EPOCHS * POINTS} points of the training loss and {EPOCHS} "
        f"evaluations. {harness.machine()}.\n\n"
        f"{table}\n"
        f"A compiled study of {made} runs took {harness.number(seconds)} s on SQLite. "
        f"Its process wrote runs for {harness.number(writing)} s of these "
        f"({harness.number(100 * writing / seconds)} %), while others trained.\n"
    )
    return harness.Report("tracking", measured, page)


if __name__ == "__main__":
    main()
