"""Time of the first step, which traces and compiles everything.

    python -m benchmarks.first_step

Each sample is taken in a new process, in which TensorFlow has only added two numbers.
The variables exist, but not yet the state of the optimizer.
"""

import time
from collections.abc import Sequence

import pandas as pd
import tensorflow as tf

from benchmarks import harness
from benchmarks.dense_contenders import Case, Problem, contenders

CASES = [Case(1, 4096), Case(200, 64)]
QUICK_CASES = [Case(3, 8)]
FAMILY = "Adam"
REFERENCE = f"Keras {FAMILY}"


def first_step(label: str, case: Case) -> float:
    """Returns the seconds that a contender's first step takes in this process."""
    tf.add(1.0, 2.0)
    steps = contenders(FAMILY)[label](Problem(case))
    start = time.perf_counter()
    next(steps)
    return time.perf_counter() - start


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = harness.parser(__doc__).parse_args(argv)
    cases = QUICK_CASES if options.quick else CASES
    labels = [REFERENCE, FAMILY]
    if harness.installed("optax") and not options.quick:
        labels.append("optax adam, jit")
    seconds: dict[tuple[str, Case], list[float]] = {
        (label, case): [] for case in cases for label in labels
    }
    for label, case in harness.in_turns(seconds, rounds=1 if options.quick else 3):
        seconds[label, case].append(harness.in_fresh_process(first_step, label, case))
    samples = pd.DataFrame(seconds)
    summary = pd.DataFrame(
        {"optimizer": label, "variables": str(case), "rounds": len(samples)}
        | harness.quartiles(
            seconds=samples[label, case],
            more=samples[label, case] - samples[REFERENCE, case],
        )
        for label, case in samples.columns
    )

    def cell(row: pd.Series) -> str:
        text = harness.with_spread(row, "seconds")
        if row.optimizer == REFERENCE:
            return text
        return f"{text}, {'+' if row.more_median > 0 else ''}{row.more_median:.1f} s"

    page = (
        f"{harness.rounds_of(summary)}, each in a fresh process. "
        f"{harness.machine()}.\n\n"
        "Seconds of the first step, median (quartiles), and how many more than "
        f"{REFERENCE}:\n\n{harness.markdown(summary, 'optimizer', 'variables', cell)}"
    )
    harness.Report("first_step", summary, page).publish(options)


if __name__ == "__main__":
    main()
