"""Time of each element-wise optimizer relative to the limit of the memory bandwidth.

    python -m benchmarks.bandwidth
    python -m benchmarks.bandwidth --backends torch

An update has to read the gradient, and to read and write the parameter and each slot.
The limit is the time in which this machine copies as many bytes (a copied byte counts
as one read and one written). It is measured in the same rounds, with one thread a core.
Each backend has a process of its own; TensorFlow tells which optimizers are
element-wise.
"""

import functools
import gc
import inspect
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
import pandas as pd

from benchmarks import backends, harness
from benchmarks.dense_contenders import Case, Problem, keras_steps
from keras_adaptive import optimizers

CASE = Case(1, 4096)
QUICK_CASE = Case(1, 256)
COPIED_BYTES = 2**28
"""Much more than the caches can hold."""

FAR = 2
"""The times of the limit from which on the page names an optimizer."""


def is_elementwise_class(cls: type) -> bool:
    """Says whether the default rule treats each entry of a variable independently."""
    from keras_adaptive.optimizers.engine.tensorflow.elementwise import is_elementwise

    if "optimizer" in inspect.signature(cls).parameters:
        return False
    optimizer = cls()
    optimizer.build([keras.Variable(keras.ops.zeros((2, 2)))])
    (state,) = optimizer._engine.states
    return is_elementwise(state, optimizer._context(0.0), [*optimizer.global_slots])


@functools.cache
def catalogue() -> dict[str, type]:
    """Returns the element-wise optimizers by name."""
    classes = {
        name: cls
        for name in optimizers.__all__
        if isinstance(cls := getattr(optimizers, name), type)
        and issubclass(cls, keras.optimizers.Optimizer)
        and cls is not optimizers.AdaptiveOptimizer
    }
    return {name: cls for name, cls in classes.items() if is_elementwise_class(cls)}


def copy_steps(count: int = COPIED_BYTES) -> Iterator[Any]:
    """Yields copies of `count` bytes, shared among the threads."""
    source, target = np.ones(count, np.uint8), np.zeros(count, np.uint8)
    parts = [
        (target[part], source[part])
        for part in (
            slice(count * i // harness.threads(), count * (i + 1) // harness.threads())
            for i in range(harness.threads())
        )
    ]
    with ThreadPoolExecutor(harness.threads()) as pool:
        while True:
            yield list(pool.map(lambda part: np.copyto(*part), parts))


def moved_bytes(optimizer: keras.optimizers.Optimizer, problem: Problem) -> int:
    """Returns the bytes that an update moves: gradient once, changed arrays twice."""
    parameters = sum(start.nbytes for start in problem.start)
    state = sum(
        int(np.prod(v.shape))
        * np.dtype(keras.backend.standardize_dtype(v.dtype)).itemsize
        for v in optimizer.variables
    )
    return parameters + 2 * (parameters + state)


def measure(
    backend: str, names: Sequence[str], case: Case, seconds: float
) -> pd.DataFrame:
    """Measures each optimizer in turns with the copy, in a process of one backend."""
    problem = Problem(case)
    records = []
    for name in names:
        optimizer = getattr(optimizers, name)()
        steps = {"copy": copy_steps(), "step": keras_steps(optimizer, problem)}
        samples = harness.measure(steps, seconds)
        moved = moved_bytes(optimizer, problem)
        bytes_a_millisecond = 2 * COPIED_BYTES / samples["copy"]
        limit = moved / bytes_a_millisecond
        record = {
            "optimizer": name,
            "backend": backends.BACKENDS[backend],
            "variable": str(case),
            "bytes": moved / problem.start[0].size,
            "rounds": len(samples),
        } | harness.quartiles(
            milliseconds=samples["step"],
            limit=limit,
            times_the_limit=samples["step"] / limit,
            gigabytes_a_second=bytes_a_millisecond / 1e6,
        )
        records.append(record)
        times = harness.number(record["times_the_limit_median"])
        print(f"{record['backend']}, {name}: {times} times the limit", flush=True)
        del steps, optimizer
        keras.backend.clear_session()
        gc.collect()
    return pd.DataFrame(records)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = harness.parser(__doc__)
    backends.add_option(parser)
    found = list(catalogue())
    parser.add_argument(
        "--optimizers", nargs="+", choices=found, default=found, metavar="NAME"
    )
    options = parser.parse_args(argv)
    case = QUICK_CASE if options.quick else CASE
    seconds = 0 if options.quick else 2
    arguments = options.optimizers, case, seconds
    summary = backends.measured_on(options.backends, measure, *arguments)
    report(summary).publish(options)


def report(summary: pd.DataFrame) -> harness.Report:
    """Returns the measurements in words, a table and a plot."""
    names = list(dict.fromkeys(summary["backend"]))
    summary = summary.sort_values("bytes", kind="stable")
    records = {(row.backend, row.optimizer): row for _, row in summary.iterrows()}

    def cell(backend: str) -> Callable[[pd.Series], str]:
        def write(row: pd.Series) -> str:
            record = records[backend, row.optimizer]
            spread = harness.with_spread(record, "times_the_limit")
            return f"{harness.number(record.milliseconds_median)}, {spread}×"

        return write

    table = harness.listing(
        summary.drop_duplicates("optimizer"),
        {
            "optimizer": lambda row: row.optimizer,
            "bytes a parameter": lambda row: f"{row.bytes:.0f}",
        }
        | {name: cell(name) for name in names},
    )
    slow = {
        name: part["optimizer"][part["times_the_limit_median"] > FAR]
        for name, part in summary.groupby("backend", sort=False)
    }
    far = "; ".join(f"{name}: {', '.join(slow[name]) or 'none'}" for name in names)
    copied = np.quantile(summary["gigabytes_a_second_median"], [0.5, 0, 1])
    page = (
        f"One variable of {summary['variable'].iloc[0]}, float32, arguments at their "
        f"defaults; {harness.rounds_of(summary)}. A copy on {harness.threads()} "
        f"threads moves {copied[0]:.1f} GB/s, read and written (over all optimizers: "
        f"{copied[1]:.1f} to {copied[2]:.1f}). {harness.machine()}.\n\n"
        "Milliseconds a step, and how many times the limit, median (quartiles). More "
        f"than {FAR} times the limit: {far}.\n\n{table}"
    )
    figure = harness.bars(
        summary, "optimizer", "backend", "times_the_limit", "time over limit"
    )
    return harness.Report("bandwidth", summary, page, figure)


if __name__ == "__main__":
    main()
