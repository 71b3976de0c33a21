"""The results of a study: tables, verdicts, recommendation, figures and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from keras_adaptive.errors import needs_extra
from keras_adaptive.study.analysis.all_promises import Judge, judge_all
from keras_adaptive.study.analysis.recommendation import Recommendation, recommend
from keras_adaptive.study.analysis.run_table import RunTable
from keras_adaptive.study.analysis.verdicts import Verdict
from keras_adaptive.study.ledger.artifacts import Artifacts
from keras_adaptive.study.ledger.connection import Tell
from keras_adaptive.study.ledger.record import Record
from keras_adaptive.study.reporting.figure_set import Picture, draw_all
from keras_adaptive.study.reporting.html_report import Report, this_command
from keras_adaptive.study.reporting.output import output_folder

with needs_extra("study"):
    import pandas as pd


@dataclass(frozen=True)
class Results:
    """The results of a study.

    Args:
        table: The runs.
        run_id: MLflow's id of the study's run.
        title: The subject of the study, in words.
        judge: Judges the promises that the study is about, from its runs.
        store_usable: Whether MLflow could be used at the end of the study. If not, no
            file is attached to the study's run.
        tell: Takes a line about long waits for MLflow.
    """

    table: RunTable
    run_id: str
    title: str
    judge: Judge = judge_all
    store_usable: bool = True
    tell: Tell = print

    @cached_property
    def artifacts(self) -> Artifacts:
        """The files of the study's run in MLflow."""
        return Artifacts(self.run_id, self.store_usable, self.tell)

    @property
    def records(self) -> Sequence[Record]:
        """The records of the runs by workload and contender, tuning first."""
        return self.table.records

    @property
    def reference(self) -> str:
        """Label of the contender that the others are compared with."""
        return self.table.reference

    @property
    def tuned(self) -> pd.DataFrame:
        """The chosen settings: a row for each workload and contender."""
        return self.table.tuned

    @property
    def given_targets(self) -> Mapping[str, float]:
        """The targets that the protocol sets, by workload."""
        return self.table.given_targets

    @property
    def directions(self) -> dict[str, str]:
        """For each workload `"max"` if more of its metric is better, else `"min"`."""
        return self.table.directions

    @property
    def metrics(self) -> dict[str, str]:
        """The name of each workload's metric."""
        return self.table.metrics

    @property
    def targets(self) -> dict[str, float]:
        """The validation metric to reach on each workload, see `RunTable.targets`."""
        return self.table.targets

    @property
    def runs(self) -> pd.DataFrame:
        """A table with a row for each run; `RunTable.runs` lists its columns."""
        return self.table.runs

    @property
    def curves(self) -> pd.DataFrame:
        """A table with a row for each measurement, see `RunTable.curves`."""
        return self.table.curves

    def judged(self, workload: str) -> pd.DataFrame:
        """Returns the runs on a workload with the evaluation seeds."""
        return self.table.evaluation_on(workload)

    def verdicts(self) -> list[Verdict]:
        """Judges all promises, on every workload and over all workloads.

        Returns:
            The verdicts on every contender except the reference: on convergence and
            generalization; on robustness, if it was tuned on a grid; and on sparse
            data, if a workload has the slice `rare`. There is no verdict if the
            reference has no such run. A study with its own `judge` has the verdicts of
            that only.
        """
        return self._verdicts

    @cached_property
    def _verdicts(self) -> list[Verdict]:
        return self.judge(self.table)

    def recommendation(self, workload: str) -> Recommendation:
        """Recommends a contender for a workload, with the evidence for it.

        Args:
            workload: Name of the workload.
        """
        return recommend(self.table, workload)

    @cached_property
    def pictures(self) -> list[Picture]:
        """All figures as PNG files, in the order of the report."""
        return draw_all(self.table, self.verdicts())

    def plot(self, folder: str | Path) -> list[Path]:
        """Writes all figures as PNG files and attaches them to the study's run.

        Args:
            folder: The folder; it is made if it does not exist.

        Returns:
            The files.

        Raises:
            InputError: If the folder cannot be made.
        """
        folder = output_folder(Path(folder))
        files = []
        for picture in self.pictures:
            file = folder / f"{picture.name}.png"
            file.write_bytes(picture.png)
            self.artifacts.attach(file, "plots")
            files.append(file)
        return files

    def html(self, command: str | None = None) -> str:
        """Returns the report as the content of an HTML file.

        Args:
            command: The shell command that runs the study again; `None` for the one
                that started this process.
        """
        return Report(
            title=self.title,
            table=self.table,
            verdicts=self.verdicts(),
            recommendations=[self.recommendation(name) for name in self.metrics],
            pictures=self.pictures,
            run_id=self.run_id,
            command=command or this_command(),
        ).to_html()

    def report(self, path: str | Path, command: str | None = None) -> Path:
        """Writes the report as one HTML file and attaches it to the study's run.

        Args:
            path: The file. Its folder is made if it does not exist.
            command: The shell command that runs the study again; `None` for the one
                that started this process.

        Returns:
            The path.

        Raises:
            InputError: If the folder cannot be made.
        """
        path = Path(path)
        output_folder(path.parent)
        path.write_text(self.html(command), encoding="utf-8")
        self.artifacts.attach(path)
        return path
