"""The report of a study: one HTML file that needs nothing else.

There is no script in it, and nothing is fetched; pictures are part of the file. All
text passes through `html.escape`.
"""

from __future__ import annotations

import base64
import html
import math
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_adaptive.errors import needs_extra
from keras_adaptive.study.analysis.stats import (
    average_ranks,
    iqm_interval,
    profile_integral,
)
from keras_adaptive.study.analysis.verdicts import REFUTED, SUPPORTED, Verdict
from keras_adaptive.study.execution.planning import NONE_WORKED
from keras_adaptive.study.reporting import tables
from keras_adaptive.study.reporting.figure_set import Picture, by_measure, median_costs

with needs_extra("study"):
    import numpy as np

if TYPE_CHECKING:
    from keras_adaptive.study.results import Results

PROMISES = {
    "convergence": "Faster convergence",
    "generalization": "Better generalization",
    "robustness": "Robustness to hyper-parameters",
    "sparse": "Handling of sparse data",
}
"""The four promises, in the order in which they are reported."""

EXAMPLES = 3
"""How many reasons are told of runs that were lost in the same way."""

STYLE = """
:root { color-scheme: light dark; --ink: #1d232b; --soft: #5b6673; --line: #d8dde3;
  --paper: #fff; --shade: #f4f6f8; --supported: #00588c; --refuted: #a84300;
  --undecided: #5b6673; }
@media (prefers-color-scheme: dark) { :root { --ink: #dfe4ea; --soft: #9aa5b1;
  --line: #39424d; --paper: #14181d; --shade: #1d232a; --supported: #66b8ec;
  --refuted: #f29a5e; --undecided: #9aa5b1; } }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 62rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 3rem 0 .75rem; padding-top: .75rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.08rem; margin: 2rem 0 .5rem; overflow-wrap: anywhere; }
h4 { font-size: 1rem; margin: 1.25rem 0 .25rem; color: var(--soft); font-weight: 600; }
p, li { max-width: 46rem; overflow-wrap: anywhere; }
.soft, figcaption { color: var(--soft); }
.advice { background: var(--shade); border-left: .3rem solid var(--supported);
  padding: .75rem 1rem; margin: 1rem 0; max-width: none; }
.scroll { overflow-x: auto; margin: .5rem 0 1rem; }
table { border-collapse: collapse; font-size: .92rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .35rem 1rem .35rem 0;
  border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
small { display: block; color: var(--soft); font-weight: 400; }
.supported, .refuted, .undecided { font-weight: 600; }
.supported { color: var(--supported); } .refuted { color: var(--refuted); }
.undecided { color: var(--undecided); }
figure { margin: 1rem 0 2rem; }
figure img { display: block; max-width: 100%; height: auto; background: #fff;
  border: 1px solid var(--line); border-radius: .3rem; }
figcaption { font-size: .9rem; margin-top: .4rem; max-width: 46rem; }
pre { background: var(--shade); padding: .75rem 1rem; overflow-x: auto;
  white-space: pre-wrap; overflow-wrap: anywhere; }
summary { cursor: pointer; color: var(--soft); }
@media print { body { max-width: none; padding: 0; } figure, tr { break-inside: avoid; }
  .scroll { overflow: visible; } }
"""


class Markup(str):
    """Text that is HTML already."""


def element(name: str, *children: str, **attributes: str) -> Markup:
    """Makes an HTML element.

    Args:
        name: Its tag.
        children: What is in it; whatever is not `Markup` is escaped.
        attributes: Its attributes; that of `class` is called `kind`.

    Example:

    >>> element("p", "1 < 2", kind="soft")
    '<p class="soft">1 &lt; 2</p>'
    """
    written = "".join(
        f' {"class" if key == "kind" else key}="{html.escape(value)}"'
        for key, value in attributes.items()
    )
    inside = "".join(
        child if isinstance(child, Markup) else html.escape(child) for child in children
    )
    return Markup(f"<{name}{written}>{inside}</{name}>")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """Makes a table."""
    head = element("tr", *(element("th", heading) for heading in headings))
    body = [element("tr", *(element("td", cell) for cell in row)) for row in rows]
    whole = element("table", element("thead", head), element("tbody", *body))
    return element("div", whole, kind="scroll")


def figure(picture: Picture) -> Markup:
    """Makes a picture that is part of the page."""
    data = base64.b64encode(picture.png).decode()
    source, words = f"data:image/png;base64,{data}", html.escape(picture.caption)
    image = Markup(f'<img src="{source}" alt="{words}">')
    return element("figure", image, element("figcaption", picture.caption))


def this_command() -> str:
    """Returns how this process was started, as it is typed into a shell."""
    called, *arguments = sys.argv
    if Path(called).name == "keras-adaptive":
        return shlex.join(["keras-adaptive", *arguments])
    return shlex.join(["python", *sys.orig_argv[1:]])


def to_html(results: Results, command: str) -> str:
    """Makes the report of a study.

    Args:
        results: The results of the study.
        command: What runs the study again, in a shell.

    Returns:
        The content of an HTML file.
    """
    groups = by_measure(results.verdicts())
    pictures: dict[str, list[Markup]] = {}
    for picture in results.pictures:
        pictures.setdefault(picture.kind, []).append(figure(picture))
    sections = {
        "In short": [*_advice(results), *_overview(results, groups)],
        "Verdicts": [*_verdicts(groups)],
        "Curves": pictures.get("curves", []),
        "Sensitivity to hyper-parameters": pictures.get("sensitivity", []),
        "Over all workloads": [
            *_over_workloads(results),
            *pictures.get("workloads", []),
        ],
        "Effect sizes": [each for kind in PROMISES for each in pictures.get(kind, [])],
        "Tuned settings and what came of them": [*_tuned(results)],
        "What failed or diverged": [*_lost(results)],
        "How it was made": [*_made(results)],
        "Run it again": [*_again(results, command)],
    }
    body = [*_head(results)]
    for heading, content in sections.items():
        if content:
            body += [element("h2", heading), *content]
    page = [
        element("title", results.title),
        Markup('<meta charset="utf-8">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        element("style", Markup(STYLE)),
    ]
    whole = element("head", *page) + element("body", element("main", *body))
    return f'<!DOCTYPE html>\n<html lang="en">{whole}</html>\n'


def _head(results: Results) -> Iterator[Markup]:
    yield element("h1", results.title)
    ended = max((record.ended for record in results.records), default=None)
    day = time.strftime("%Y-%m-%d", time.gmtime(ended / 1_000)) if ended else "never"
    counts = results.runs["status"].value_counts()
    runs = ", ".join(f"{number} {status}" for status, number in counts.items())
    contenders = ", ".join(results.tuned["contender"].unique())
    yield element("p", f"{contenders}. Runs: {runs}; last on {day}.", kind="soft")


def _advice(results: Results) -> Iterator[Markup]:
    for workload in results.metrics:
        why = results.recommendation(workload).why
        name = [element("strong", f"{workload}: ")] if len(results.metrics) > 1 else []
        yield element("p", *name, why, kind="advice")


def _overview(results: Results, groups: dict) -> Iterator[Markup]:
    """A table of the verdicts over all workloads, or on the only one."""
    contenders = [
        n for n in results.tuned["contender"].unique() if n != results.reference
    ]
    single = len(results.metrics) == 1
    rows = []
    for (promise, measure), verdicts in groups.items():
        cells = dict.fromkeys(contenders, Markup("–"))
        for verdict in verdicts:
            if verdict.workload is None or single:
                how_often = (
                    Markup() if single else element("small", _tally(verdict, verdicts))
                )
                cells[verdict.contender] = Markup(_badge(verdict) + how_often)
        rows.append((PROMISES[promise], measure, *cells.values()))
    if rows:
        where = f"on {next(iter(results.metrics))}" if single else "over all workloads"
        yield element(
            "p",
            f"What each optimizer promises, judged against {results.reference}, "
            f"{where}. Supported: the runs show that it is better. Refuted: they show "
            "that it is not better by what matters. Undecided: they show neither.",
        )
        yield table(["promise", "measured by", *contenders], rows)
    else:
        yield element(
            "p",
            "There are no verdicts: the reference has no runs, or nobody to be "
            "compared with.",
        )


def _verdicts(groups: dict) -> Iterator[Markup]:
    for promise, title in PROMISES.items():
        measures = {m: each for (p, m), each in groups.items() if p == promise}
        if not measures:
            continue
        yield element("h3", title)
        for measure, verdicts in measures.items():
            yield element("h4", measure.capitalize())
            overall = [each for each in verdicts if each.workload is None]
            if not overall:
                yield _in_words(verdicts)
                continue
            yield _in_words(overall)
            single = [each for each in verdicts if each.workload is not None]
            yield _by_workload(single)
            yield element(
                "details",
                element("summary", "On each workload, in words"),
                _in_words(single),
            )
    if groups:
        yield element(
            "p",
            "Two runs are a pair if they share workload and seed, and so initial "
            "weights and batches. Wilcoxon's signed rank test decides at the level of "
            "5 %, its p values corrected by Holm's method for the number of workloads; "
            "over all workloads each of them is one pair. Intervals are 95 % bootstrap "
            "intervals of the median, as a description.",
            kind="soft",
        )


def _tally(overall: Verdict, verdicts: Sequence[Verdict]) -> str:
    """Says on how many workloads a promise was kept, and on how many not."""
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
        ["optimizer", "workload", "verdict", "what the runs say"],
        [
            (each.contender, each.workload or "all", _badge(each), each.why)
            for each in verdicts
        ],
    )


def _by_workload(verdicts: Sequence[Verdict]) -> Markup:
    workloads = list(dict.fromkeys(each.workload for each in verdicts))
    rows: dict[str, dict[str, str]] = {}
    for each in verdicts:
        cells = rows.setdefault(each.contender, dict.fromkeys(workloads, "–"))
        cells[each.workload] = _badge(each)
    return table(
        ["optimizer", *workloads],
        [(name, *cells.values()) for name, cells in rows.items()],
    )


def _over_workloads(results: Results) -> Iterator[Markup]:
    """Numbers over two workloads or more: of time to target, and of ranks."""
    steps = median_costs(results, "steps_to_target").dropna(how="all").fillna(np.inf)
    if len(steps) < 2:
        return
    ranks = average_ranks(median_costs(results, "test_metric").fillna(np.inf))
    areas = profile_integral(steps)
    rows = []
    for name, area, rank in zip(steps.columns, areas, ranks, strict=True):
        speeds = [_speeds(results, workload, name) for workload in steps.index]
        speeds = [each for each in speeds if len(each)]
        speed = "–"
        if speeds:
            middle = iqm_interval(speeds, seed=0)
            speed = f"{middle.value:.2f} [{middle.low:.2f}, {middle.high:.2f}]"
        rows.append((name, speed, f"{area:.2f}", f"{rank:.2f}"))
    yield table(
        ["optimizer", "speed (IQM)", "area under the profile", "rank by test metric"],
        rows,
    )
    yield element(
        "p",
        f"Speed: the median steps to the target of {results.reference} divided by a "
        "run's own, 0 for a miss; the interquartile mean over all runs, with the 95 % "
        "interval of a bootstrap within each workload. Area: of the performance "
        "profile up to four times the lowest cost, between 0 and 1.",
        kind="soft",
    )


def _speeds(results: Results, workload: str, contender: str) -> np.ndarray:
    """Returns how many times as fast as the reference's median each run was."""
    runs = results.judged(workload)
    steps = runs.set_index("contender")["steps_to_target"].dropna()
    own = steps[steps.index == contender].to_numpy()
    reference = steps[steps.index == results.reference]
    usual = reference.median() if len(reference) else math.inf
    return usual / own if math.isfinite(usual) else np.array([])


def _tuned(results: Results) -> Iterator[Markup]:
    yield table(
        ["workload", "optimizer", "learning rate", "settings tried"],
        [
            (
                row["workload"],
                row["contender"],
                row["setting"],
                str(row["trials"]) if row["trials"] else "fixed",
            )
            for row in results.tuned.to_dict("records")
        ],
    )
    for workload, metric in results.metrics.items():
        yield element("h3", workload)
        rows = tables.summarize(results, workload)
        yield table(tables.headings(metric), map(tables.cells, rows))
        yield element("p", tables.caption(results, workload), kind="soft")
    configurations = {
        (record.workload, record.contender): record.params
        for record in results.records
        if record.phase == "compare"
    }
    rows = [
        (
            *whose,
            ", ".join(
                f"{key.removeprefix('optimizer.')} {value}"
                for key, value in params.items()
                if key.startswith("optimizer.") and value != "None"
            ),
        )
        for whose, params in configurations.items()
    ]
    if rows:
        yield element(
            "details",
            element("summary", "All hyper-parameters of the tuned optimizers"),
            table(["workload", "optimizer", "configuration"], rows),
        )


def _lost(results: Results) -> Iterator[Markup]:
    groups: dict[tuple[str, ...], list] = {}
    for record in results.records:
        if record.status != "finished":
            phase = {"tune": "tuning", "compare": "judging"}[record.phase]
            whose = (record.workload, record.contender, phase, record.status)
            groups.setdefault(whose, []).append(record)
    nothing = results.tuned[results.tuned["setting"] == NONE_WORKED]
    for row in nothing.to_dict("records"):
        yield element(
            "p",
            f"No setting of {row['contender']} worked on {row['workload']}, so it was "
            "not judged there.",
        )
    if not groups:
        yield element("p", "No run failed, and none diverged.")
        return
    rows = []
    for whose, records in groups.items():
        settings = dict.fromkeys(str(record.setting) for record in records)
        reasons = list(dict.fromkeys(record.reason for record in records))
        more = len(reasons) - EXAMPLES
        shown = "; ".join(reasons[:EXAMPLES]) + (
            f"; and {more} more" if more > 0 else ""
        )
        rows.append((*whose, str(len(records)), "; ".join(settings), shown))
    yield table(
        ["workload", "optimizer", "phase", "how", "runs", "settings", "reasons"], rows
    )


def _made(results: Results) -> Iterator[Markup]:
    runs = results.runs
    tune, compare = (runs[runs["phase"] == phase] for phase in ("tune", "compare"))
    words = []
    if len(tune):
        words.append(
            f"Every optimizer was tuned on the validation data with "
            f"{_count(tune['seed'].nunique(), 'seed')} of its own."
        )
    if len(compare):
        words.append(
            f"The settings that were chosen were run with "
            f"{_count(compare['seed'].nunique(), 'fresh seed')} and judged on the test "
            "data. The same seed means the same initial weights and the same batches "
            "for all."
        )
    yield element("p", *words[:1], " ", *words[1:])
    yield table(
        ["workload", "data", "source", "digest", "batch size", "steps a run"],
        dict.fromkeys(
            (record.workload, *(record.params[key] for key in DATA))
            for record in results.records
        ),
    )
    values: dict[str, dict[str, None]] = {}
    for record in results.records:
        for key, value in record.params.items():
            group, dot, name = key.partition(".")
            if key in ("backend", "floatx") or group in ("version", "machine") and dot:
                values.setdefault(name or SOFTWARE.get(key, key), {})[value] = None
    yield table(
        ["software and hardware", ""],
        [(name, " or ".join(seen)) for name, seen in values.items()],
    )


SOFTWARE = {"floatx": "precision"}
DATA = ("data", "data_source", "data_digest", "batch_size", "steps")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _again(results: Results, command: str) -> Iterator[Markup]:
    yield element(
        "p",
        "With the versions above and the same data this makes the same runs; those "
        "that are in MLflow already are taken from there.",
    )
    yield element("pre", command)
    yield element("p", f"The study's run in MLflow: {results.run_id}.", kind="soft")
