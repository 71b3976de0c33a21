"""Runs all benchmarks, each in its own process, and puts their tables into pages.

    python -m benchmarks
    python -m benchmarks --data-home FOLDER
    python -m benchmarks --quick --output /tmp/results

Without `--quick` this rewrites the tables and plots in `benchmarks/results`,
`README.md` and `docs/speed.md`. Use an idle machine. On two cores it takes one to two
hours.
"""

import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks import harness

RUNS = [
    ["fit_step"],
    ["dense_step"],
    ["bandwidth"],
    ["first_step"],
    ["sparse_step"],
    ["sparse_step", "--training", "--families", "Adam"],
    ["embedding_layer"],
    ["small_tables"],
    ["sparse_products"],
    ["bag_of_words"],
    ["memory"],
    ["study"],
    ["tracking"],
]
PAGES = [
    harness.ROOT / "README.md",
    harness.ROOT / "docs" / "speed.md",
    harness.ROOT / "docs" / "studies.md",
    harness.ROOT / "docs" / "tracking.md",
]


def commands(argv: Sequence[str] | None = None) -> list[list[str]]:
    """Returns the command line of each benchmark."""
    parser = harness.parser(__doc__, prog="python -m benchmarks")
    parser.add_argument(
        "--data-home", metavar="DIR", help="bag_of_words: folder of the texts"
    )
    options = parser.parse_args(argv)
    if not options.quick:
        options.output = options.output or harness.ROOT / "benchmarks" / "results"
        options.pages = options.pages or PAGES
    shared = ["--quick"] if options.quick else []
    shared += ["--output", str(options.output)] if options.output else []
    shared += ["--pages", *map(str, options.pages)] if options.pages else []
    texts = ["--data-home", options.data_home] if options.data_home else []
    return [
        [
            f"benchmarks.{name}",
            *own,
            *shared,
            *(texts if name == "bag_of_words" else []),
        ]
        for name, *own in RUNS
    ]


def main() -> None:
    """Runs all benchmarks."""
    for command in commands():
        print(f"\n{' '.join(command)}", flush=True)
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", *command], check=True)
        print(f"{time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
