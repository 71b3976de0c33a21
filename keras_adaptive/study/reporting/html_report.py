"""The report of a study as one HTML file that needs nothing else."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_adaptive.study.analysis.recommendation import Recommendation
from keras_adaptive.study.analysis.run_table import RunTable
from keras_adaptive.study.analysis.verdicts import Verdict, by_measure
from keras_adaptive.study.reporting.figure_set import Picture
from keras_adaptive.study.reporting.html_elements import Markup, element, figure, page
from keras_adaptive.study.reporting.run_sections import (
    lost_runs,
    provenance,
    ranking,
    tuned_settings,
)
from keras_adaptive.study.reporting.verdict_sections import (
    PROMISES,
    overview,
    verdicts_in_words,
)


@dataclass(frozen=True)
class Report:
    """The content of the report of a study.

    Args:
        title: The subject of the study, in words.
        table: The runs.
        verdicts: The verdicts.
        recommendations: One for each workload.
        pictures: The figures.
        run_id: MLflow's id of the study's run.
        command: The shell command that runs the study again.
    """

    title: str
    table: RunTable
    verdicts: Sequence[Verdict]
    recommendations: Sequence[Recommendation]
    pictures: Sequence[Picture]
    run_id: str
    command: str

    def to_html(self) -> str:
        """Returns the content of an HTML file."""
        body = [*self._head()]
        for heading, content in self._sections().items():
            if content:
                body += [element("h2", heading), *content]
        return page(self.title, body)

    def _sections(self) -> Mapping[str, Sequence[Markup]]:
        """Returns the sections by their headings; an empty one is left out."""
        table, groups = self.table, by_measure(self.verdicts)
        drawn: dict[str, list[Markup]] = {}
        for each in self.pictures:
            drawn.setdefault(each.kind, []).append(figure(each.png, each.caption))
        return {
            "In short": [*self._advice(), *overview(table, groups)],
            "Verdicts": [*verdicts_in_words(groups)],
            "Curves": drawn.get("curves", []),
            "Sensitivity to hyper-parameters": drawn.get("sensitivity", []),
            "Over all workloads": [*ranking(table), *drawn.get("workloads", [])],
            "Effect sizes": [each for kind in PROMISES for each in drawn.get(kind, [])],
            "Tuned settings and their results": [*tuned_settings(table)],
            "Failed and diverged runs": [*lost_runs(table)],
            "How it was made": [*provenance(table)],
            "Run it again": [*self._again()],
        }

    def _head(self) -> Iterator[Markup]:
        yield element("h1", self.title)
        ended = max((record.ended for record in self.table.records), default=None)
        day = (
            time.strftime("%Y-%m-%d", time.gmtime(ended / 1_000)) if ended else "never"
        )
        counts = self.table.runs["status"].value_counts()
        runs = ", ".join(f"{number} {status}" for status, number in counts.items())
        contenders = ", ".join(self.table.contenders)
        yield element("p", f"{contenders}. Runs: {runs}; last on {day}.", kind="soft")

    def _advice(self) -> Iterator[Markup]:
        several = len(self.recommendations) > 1
        for each in self.recommendations:
            name = [element("strong", f"{each.workload}: ")] if several else []
            yield element("p", *name, each.why, kind="advice")

    def _again(self) -> Iterator[Markup]:
        yield element(
            "p",
            "With the versions above and the same data, this command makes the same "
            "runs. Runs that are in MLflow already are taken from there.",
        )
        yield element("pre", self.command)
        yield element("p", f"The study's run in MLflow: {self.run_id}.", kind="soft")


def this_command() -> str:
    """Returns the shell command that started this process."""
    called, *arguments = sys.argv
    if Path(called).name == "keras-adaptive":
        return shlex.join(["keras-adaptive", *arguments])
    return shlex.join(["python", *sys.orig_argv[1:]])
