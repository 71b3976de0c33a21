"""Time of each element-wise optimizer relative to the limit of the memory bandwidth.

    python -m benchmarks.bandwidth

An update has to read the gradient, and to read and write the parameter and each slot.
The limit is the time in which this machine copies as many bytes (a copied byte counts
as one read and one written). It is measured in the same rounds, with one thread a core.
"""

import functools
import gc
import inspect
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
import pandas as pd

from benchmarks import harness
from benchmarks.dense_step import Case, Problem, keras_steps
from keras_adaptive import optimizers
from keras_adaptive.optimizers.engine.tensorflow.elementwise import is_elementwise

CASE = Case(1, 4096)
QUICK_CASE = Case(1, 256)
COPIED_BYTES = 2**28
"""Much more than the caches can hold."""


def is_elementwise_class(cls: type) -> bool:
    """Says whether the default rule treats each entry of a variable independently."""
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


def measure(name: str, cls: type, problem: Problem, seconds: float) -> dict[str, Any]:
    """Measures one optimizer in turns with the copy, and returns its record."""
    optimizer = cls()
    steps = keras_steps(optimizer, problem)
    samples = harness.measure({"copy": copy_steps(), "step": steps}, seconds)
    moved = moved_bytes(optimizer, problem)
    bytes_a_millisecond = 2 * COPIED_BYTES / samples["copy"]
    limit = moved / bytes_a_millisecond
    return {
        "optimizer": name,
        "variable": str(problem.case),
        "bytes": moved / problem.start[0].size,
        "rounds": len(samples),
    } | harness.quartiles(
        milliseconds=samples["step"],
        limit=limit,
        times_the_limit=samples["step"] / limit,
        gigabytes_a_second=bytes_a_millisecond / 1e6,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = harness.parser(__doc__)
    found = catalogue()
    parser.add_argument(
        "--optimizers",
        nargs="+",
        choices=list(found),
        default=list(found),
        metavar="NAME",
    )
    options = parser.parse_args(argv)
    problem = Problem(QUICK_CASE if options.quick else CASE)
    records = []
    for name in options.optimizers:
        records.append(
            measure(name, found[name], problem, seconds=0 if options.quick else 2)
        )
        gc.collect()
    summary = pd.DataFrame(records).sort_values("bytes", kind="stable")

    copied = np.quantile(summary["gigabytes_a_second_median"], [0.5, 0, 1])
    table = harness.listing(
        summary,
        {
            "optimizer": lambda row: row.optimizer,
            "bytes a parameter": lambda row: f"{row.bytes:.0f}",
            "ms a step": lambda row: harness.with_spread(row, "milliseconds"),
            "limit, ms": lambda row: harness.with_spread(row, "limit"),
            "times the limit": lambda row: harness.with_spread(row, "times_the_limit"),
        },
    )
    page = (
        f"One variable of {problem.case}, float32, arguments at their defaults; "
        f"{harness.rounds_of(summary)}. A copy on {harness.threads()} threads moves "
        f"{copied[0]:.1f} GB/s, read and written (over all optimizers: "
        f"{copied[1]:.1f} to {copied[2]:.1f}). {harness.machine()}.\n\n"
        f"Median (quartiles):\n\n{table}"
    )
    figure = harness.bars(
        summary, "optimizer", "variable", "times_the_limit", "time over limit"
    )
    harness.Report("bandwidth", summary, page, figure).publish(options)


if __name__ == "__main__":
    main()
