"""Time of one optimizer step with dense gradients, compared with peers.

    python -m benchmarks.dense_step
    python -m benchmarks.dense_step --backends torch --families Adam Lion --seconds 60

Each backend has a process of its own; `dense_contenders.py` says what a step is. For
Adam and Adagrad there is also an optimizer that moves as many bytes in the same way and
computes almost nothing. torch's Adam (fused and foreach) and optax's (under `jax.jit`
with donated buffers) take part if they are installed. All use one thread a core.
"""

import gc
from collections.abc import Sequence

import keras
import pandas as pd

from benchmarks import backends, harness
from benchmarks.dense_contenders import FAMILIES, Case, Problem, contenders

CASES = [Case(1, 4096), Case(60, 256), Case(200, 64)]
QUICK_CASES = [Case(1, 256), Case(3, 128), Case(10, 8)]


def measure(
    backend: str, families: Sequence[str], cases: Sequence[Case], seconds: float
) -> pd.DataFrame:
    """Measures one backend, in a process of its own."""
    problems = [Problem(case) for case in cases]
    parts = []
    for family in families:
        steps = {
            (label, problem.case): make(problem)
            for problem in problems
            for label, make in contenders(family).items()
        }
        samples = harness.measure(steps, seconds)
        parts.append(summarize(backends.BACKENDS[backend], family, samples))
        rounds = harness.rounds_of(parts[-1])
        print(f"{backends.BACKENDS[backend]}, {family}: {rounds}", flush=True)
        del steps
        keras.backend.clear_session()
        gc.collect()
    return pd.concat(parts, ignore_index=True)


def summarize(backend: str, family: str, samples: pd.DataFrame) -> pd.DataFrame:
    """Returns the quartiles of the time, and of Keras's time over the time."""
    return pd.DataFrame(
        {
            "backend": backend,
            "optimizer": label,
            "family": family,
            "variables": str(case),
            "rounds": len(samples),
        }
        | harness.quartiles(
            milliseconds=samples[label, case],
            times_as_fast=samples[f"Keras {family}", case] / samples[label, case],
        )
        for label, case in samples.columns
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = harness.parser(__doc__)
    backends.add_option(parser)
    parser.add_argument(
        "--families",
        nargs="+",
        choices=list(FAMILIES),
        default=list(FAMILIES),
        metavar="NAME",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        help="for each backend and family; at least 5 rounds (default: 10)",
    )
    options = parser.parse_args(argv)
    seconds = options.seconds or (0 if options.quick else 10)
    cases = QUICK_CASES if options.quick else CASES
    arguments = options.families, cases, seconds
    summary = backends.measured_on(options.backends, measure, *arguments)
    report(summary).publish(options)


def report(summary: pd.DataFrame) -> harness.Report:
    """Returns the measurements in words, tables and a plot."""

    def page(part: pd.DataFrame) -> str:
        tables = harness.sections(
            part,
            "backend",
            lambda one: harness.markdown(
                one, "optimizer", "variables", harness.time_and_ratio
            ),
        )
        return (
            f"float32; SGD with momentum; {harness.rounds_of(part)}. "
            f"{harness.machine()}.\n\n"
            "Milliseconds a step, and how many times as fast as Keras's optimizer of "
            f"the same name on the same backend, median (quartiles).\n\n{tables}"
        )

    rivals = summary[~summary["optimizer"].str.startswith("Keras ")]
    figure = harness.bars(
        rivals,
        "optimizer",
        "variables",
        "times_as_fast",
        "times as fast as Keras",
        by="backend",
    )
    adam = {"dense_step:Adam": page(summary[summary["family"] == "Adam"])}
    return harness.Report("dense_step", summary, page(summary), figure, adam)


if __name__ == "__main__":
    main()
