"""A scripted study of one promise, as a command."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from keras_adaptive.commands import data_options
from keras_adaptive.commands import options as command
from keras_adaptive.datasets.dataset import Dataset
from keras_adaptive.errors import needs_extra
from keras_adaptive.study.analysis.verdicts import Verdict
from keras_adaptive.study.design.workload import Workload
from keras_adaptive.study.publish import publish
from keras_adaptive.study.study import Study
from keras_adaptive.terminal import say

with needs_extra("study"):
    from rich.console import Console

OFFLINE = tuple(data_options.OFFLINE)
"""Data of every kind that need neither a network nor files."""


@dataclass(frozen=True)
class Experiment:
    """A study of one promise that can be run from the command line.

    Args:
        description: The question in the first line, then the method.
        data: The sources of the data, unless the command line names others.
        quick_data: The sources of the data for a first look (`--quick`).
        study: Makes the study of the loaded data; the second argument is true for a
            first look.
    """

    description: str
    data: Sequence[str]
    quick_data: Sequence[str]
    study: Callable[[Sequence[Dataset], bool], Study]

    def main(self, argv: Sequence[str] | None = None, prog: str | None = None) -> int:
        """Runs the experiment from the command line.

        Args:
            argv: The arguments; `None` for those of the process.
            prog: Name of the command; `None` for that of the process.

        Returns:
            The exit status: 0 for success, 2 for an input that cannot be used.
        """
        return command.main(self.parse, self.run, argv, prog)

    def parse(self, argv: Sequence[str] | None, prog: str | None) -> argparse.Namespace:
        """Parses the command line."""
        question, *_ = self.description.splitlines()
        parser = argparse.ArgumentParser(prog=prog, description=question)
        parser.add_argument(
            "--quick",
            action="store_true",
            help="a first look, in minutes (default data: "
            f"{', '.join(self.quick_data)})",
        )
        data_options.add_data_options(parser, *self.data)
        parser.set_defaults(data=None)
        command.add_output_option(parser, "results", "report, plots and tables")
        command.add_run_options(parser)
        options = parser.parse_args(argv)
        options.data = options.data or (self.quick_data if options.quick else self.data)
        return options

    def run(self, options: argparse.Namespace) -> list[Verdict]:
        """Runs the study and publishes its results.

        Args:
            options: The parsed command line.

        Returns:
            The verdicts. They are also printed, written to the output folder and
            attached to the run of the study.
        """
        command.output_folder(options.output)
        console = Console()
        data = data_options.load_all(options)
        command.show_data(data, console)
        study = self.study(data, options.quick)
        for workload in study.workloads:
            for line in slice_sizes(workload):
                say(console, line)
        place = command.results_folder(study, study.title, options)
        results = command.run_study(study, options, console)
        publish(results, place, console)
        return results.verdicts()


def slice_sizes(workload: Workload) -> list[str]:
    """Returns a line for each slice of a workload with its number of rows."""
    slices = workload.masks(workload.load())
    return [
        f"{workload.name}: {np.sum(rows):,} of {len(rows):,} test rows are {name}"
        for name, rows in slices.items()
    ]
