"""Peak memory of a sparse step beyond table and state, for a table of 10⁷ × 16.

    python -m benchmarks.memory

Each optimizer runs in a new process. The temporary memory of a step is the peak of
TensorFlow's allocations less the table and the state of the optimizer. The peak of the
whole process is the kernel's `VmHWM` (Linux only) less the memory of the process before
the table existed. TensorFlow does not return freed memory to the system, so this peak
cannot be assigned to a stage.
"""

import gc
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

import keras_adaptive
from benchmarks import harness, on_tables
from benchmarks.on_tables import Table
from benchmarks.sparse_contenders import Problem, keras_steps

TABLE = Table(10**7, 16)
QUICK_TABLE = Table(10**6, 16)
IDS = 1024
STEPS = 5
LIMIT = 16 * 2**30
STAGES = {
    "made": "first step",
    "step": "later steps",
    "flush": "flush",
    "process": "whole process",
}


class Setting(NamedTuple):
    """An optimizer by name, and its arguments."""

    library: str
    name: str
    arguments: dict[str, Any]

    def make(self) -> keras.optimizers.Optimizer:
        """Makes the optimizer."""
        module = keras if self.library == "Keras" else keras_adaptive
        return getattr(module.optimizers, self.name)(1e-3, **self.arguments)

    def __str__(self) -> str:
        arguments = [f"{name}={value!r}" for name, value in self.arguments.items()]
        prefix = "Keras " if self.library == "Keras" else ""
        return ", ".join([f"{prefix}{self.name}", *arguments])


EMA = {"use_ema": True}
SETTINGS = [
    Setting("ours", "Adam", {"sparse": "deferred"}),
    Setting("ours", "Adam", {"sparse": "lazy"}),
    Setting("ours", "AdamW", {"sparse": "deferred"}),
    Setting("ours", "Adam", {"sparse": "deferred"} | EMA),
    Setting("ours", "Adam", {"sparse": "deferred", "gradient_accumulation_steps": 2}),
    Setting("Keras", "Adam", {}),
    Setting("Keras", "Adam", EMA),
]
QUICK_SETTINGS = [SETTINGS[0], SETTINGS[5]]


def peak(work: Callable[[], object]) -> int:
    """Returns the peak of the bytes that TensorFlow allocates during some work."""
    tf.config.experimental.reset_memory_stats("CPU:0")
    work()
    return int(tf.config.experimental.get_memory_info("CPU:0")["peak"])


def kept_bytes(optimizer: keras.optimizers.Optimizer) -> int:
    """Returns the bytes that an optimizer saves, including the state of rows."""
    store: dict[str, np.ndarray] = {}
    optimizer.save_own_variables(store)
    return sum(np.asarray(value).nbytes for value in store.values())


def peaks(setting: Setting, table: Table) -> dict[str, float]:
    """Returns the peaks in this process by stage, in bytes beyond table and state."""
    warm_up = setting.make()
    next(keras_steps(warm_up, Problem(Table(table.rows // 100, table.width), IDS)))
    finish(warm_up)
    del warm_up
    gc.collect()
    process = on_tables.memory("VmRSS")
    before = tf.config.experimental.get_memory_info("CPU:0")["current"]

    problem = Problem(table, IDS)
    optimizer = setting.make()
    steps = keras_steps(optimizer, problem)
    found = {
        "made": peak(lambda: next(steps)) - before,
        "step": peak(lambda: [next(steps) for _ in range(STEPS)]) - before,
        "flush": peak(lambda: finish(optimizer)) - before,
        "process": on_tables.memory("VmHWM") - process,
    }
    kept = 4 * table.rows * table.width + kept_bytes(optimizer)
    return {stage: most - kept for stage, most in found.items()} | {"kept": kept}


def finish(optimizer: keras.optimizers.Optimizer) -> None:
    """Brings all rows up to date if the optimizer defers updates."""
    if hasattr(optimizer, "flush"):
        optimizer.flush()


def record(setting: Setting, table: Table) -> dict[str, Any]:
    """Returns the record of an optimizer; without numbers if it ran out of memory."""
    found = on_tables.if_it_fits("tensorflow", peaks, setting, table, limit=LIMIT)
    found = found or dict.fromkeys(["kept", *STAGES], float("nan"))
    return {"optimizer": str(setting), "library": setting.library, **found}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = harness.parser(__doc__).parse_args(argv)
    # Only the allocator of oneDNN counts bytes, and not every processor has it on.
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    table = QUICK_TABLE if options.quick else TABLE
    records = []
    for setting in QUICK_SETTINGS if options.quick else SETTINGS:
        records.append(record(setting, table))
        print(f"{setting}: done", flush=True)
    summary = pd.DataFrame(records)

    def kept(row: pd.Series) -> str:
        fits = np.isfinite(row.kept)
        return f"{row.kept / 2**20:,.0f}" if fits else f"more than {LIMIT >> 30} GiB"

    def over(stage: str) -> Callable[[pd.Series], str]:
        def write(row: pd.Series) -> str:
            if not np.isfinite(row[stage]) or (
                stage == "flush" and row.library == "Keras"
            ):
                return "–"
            return f"{row[stage] / 2**20:,.0f} ({row[stage] / row.kept:.1%})"

        return write

    listed = harness.listing(
        summary,
        {"optimizer": lambda row: row.optimizer, "table and state, MiB": kept}
        | {f"{title}: MiB more": over(stage) for stage, title in STAGES.items()},
    )
    page = (
        f"Table of {table}, float32, {IDS:,} ids a step. Peak memory over table plus "
        f"state: in the first step, in which the state is made; in the next {STEPS}; "
        "in a flush, in which all rows are brought up to date; and of the whole "
        "process, with what TensorFlow has freed and keeps. "
        f"{harness.machine()}.\n\n{listed}"
    )
    harness.Report("memory", summary, page).publish(options)


if __name__ == "__main__":
    main()
