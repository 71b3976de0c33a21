"""The sections of the report on verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from keras_adaptive.study.analysis.run_table import RunTable
from keras_adaptive.study.analysis.verdicts import REFUTED, SUPPORTED, Verdict
from keras_adaptive.study.reporting.html_elements import Markup, element, table

PROMISES = {
    "convergence": "Faster convergence",
    "generalization": "Better generalization",
    "robustness": "Robustness to hyper-parameters",
    "sparse": "Handling of sparse data",
}
"""The four promises, in the order of the report."""

Groups = Mapping[tuple[str, str], Sequence[Verdict]]
"""Verdicts by promise and measure."""


def overview(runs: RunTable, groups: Groups) -> Iterator[Markup]:
    """Yields a table of the verdicts over all workloads, or on the only one."""
    contenders = [name for name in runs.contenders if name != runs.reference]
    single = len(runs.metrics) == 1
    rows = []
    for (promise, measure), verdicts in groups.items():
        cells = dict.fromkeys(contenders, Markup("–"))
        for verdict in verdicts:
            if verdict.workload is None:
                tally = element("small", _tally(verdict, verdicts))
                cells[verdict.contender] = Markup(_badge(verdict) + tally)
            elif single:
                cells[verdict.contender] = _badge(verdict)
        rows.append((PROMISES[promise], measure, *cells.values()))
    if rows:
        where = f"on {next(iter(runs.metrics))}" if single else "over all workloads"
        yield element(
            "p",
            f"The promises of each optimizer, judged against {runs.reference} {where}. "
            "Supported: the runs show that it is better. Refuted: they show that it is "
            "not better by a margin that matters. Undecided: they show neither.",
        )
        yield table(["promise", "measured by", *contenders], rows)
    else:
        yield element(
            "p",
            "There are no verdicts: the reference has no runs, or there is no other "
            "contender.",
        )


def verdicts_in_words(groups: Groups) -> Iterator[Markup]:
    """Yields all verdicts with their reasons, promise by promise."""
    for promise, title in PROMISES.items():
        measures = {m: each for (p, m), each in groups.items() if p == promise}
        if measures:
            yield element("h3", title)
        for measure, verdicts in measures.items():
            yield element("h4", measure.capitalize())
            yield from _of_measure(verdicts)
    if groups:
        yield element(
            "p",
            "Two runs are a pair if they share workload and seed, and so initial "
            "weights and batches. Wilcoxon's signed rank test decides at the level of "
            "5 %, with p values corrected by Holm's method for the number of "
            "workloads. Over all workloads, each of them is one pair. The intervals "
            "are 95 % bootstrap intervals of the median, as a description.",
            kind="soft",
        )


def _of_measure(verdicts: Sequence[Verdict]) -> Iterator[Markup]:
    overall = [each for each in verdicts if each.workload is None]
    if not overall:
        yield _in_words(verdicts)
        return
    single = [each for each in verdicts if each.workload is not None]
    yield _in_words(overall)
    yield _by_workload(single)
    yield element(
        "details",
        element("summary", "On each workload, in words"),
        _in_words(single),
    )


def _tally(overall: Verdict, verdicts: Sequence[Verdict]) -> str:
    """Returns the numbers of workloads on which a promise was kept and broken."""
    outcomes = [
        each.outcome
        for each in verdicts
        if each.contender == overall.contender and each.workload is not None
    ]
    kept, broken = (outcomes.count(each) for each in (SUPPORTED, REFUTED))
    return f"supported on {kept}, refuted on {broken} of {len(outcomes)}"


def _badge(verdict: Verdict) -> Markup:
    return element("span", verdict.outcome, kind=verdict.outcome)


def _in_words(verdicts: Sequence[Verdict]) -> Markup:
    return table(
        ["optimizer", "workload", "verdict", "why"],
        [
            (each.contender, each.workload or "all", _badge(each), each.why)
            for each in verdicts
        ],
    )


def _by_workload(verdicts: Sequence[Verdict]) -> Markup:
    workloads = list(dict.fromkeys(each.workload or "all" for each in verdicts))
    rows: dict[str, dict[str, str]] = {}
    for each in verdicts:
        cells = rows.setdefault(each.contender, dict.fromkeys(workloads, "–"))
        cells[each.workload or "all"] = _badge(each)
    return table(
        ["optimizer", *workloads],
        [(name, *cells.values()) for name, cells in rows.items()],
    )
