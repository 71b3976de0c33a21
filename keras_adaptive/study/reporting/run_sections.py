"""The sections of the report on runs: ranks, settings, losses and provenance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from keras_adaptive.errors import needs_extra
from keras_adaptive.study.analysis.run_table import RunTable
from keras_adaptive.study.analysis.stats.medians import iqm_interval
from keras_adaptive.study.analysis.stats.profiles import average_ranks, profile_integral
from keras_adaptive.study.ledger.record import NONE_WORKED, Record
from keras_adaptive.study.reporting import tables
from keras_adaptive.study.reporting.html_elements import Markup, element, table

with needs_extra("study"):
    import numpy as np

EXAMPLES = 3
"""The number of reasons that are shown of runs that were lost in the same way."""

PHASES = {"tune": "tuning", "compare": "evaluation", "time": "timing"}

SOFTWARE = {"floatx": "precision"}
DATA = ("data", "data_source", "data_digest", "batch_size", "steps")


def ranking(runs: RunTable) -> Iterator[Markup]:
    """Yields numbers over two workloads or more: speed, profile area and rank."""
    steps = runs.median_costs("steps_to_target").dropna(how="all").fillna(np.inf)
    if len(steps) < 2:
        return
    ranks = average_ranks(runs.median_costs("test_metric").fillna(np.inf))
    areas = profile_integral(steps)
    yield table(
        ["optimizer", "speed (IQM)", "area under the profile", "rank by test metric"],
        [
            (name, _speed(runs, list(steps.index), name), f"{area:.2f}", f"{rank:.2f}")
            for name, area, rank in zip(steps.columns, areas, ranks, strict=True)
        ],
    )
    yield element(
        "p",
        f"Speed: the median steps to the target of {runs.reference} divided by the "
        "steps of a run, 0 for a miss; the interquartile mean over all runs, with "
        "the 95 % interval of a bootstrap within each workload. Area: that under the "
        "performance profile up to four times the lowest cost, between 0 and 1.",
        kind="soft",
    )


def _speed(runs: RunTable, workloads: list[str], contender: str) -> str:
    """Returns the speed of a contender over some workloads, as text."""
    speeds = [_speeds(runs, workload, contender) for workload in workloads]
    measured = [each for each in speeds if len(each)]
    if not measured:
        return "–"
    mean = iqm_interval(measured, seed=0)
    return f"{mean.value:.2f} [{mean.low:.2f}, {mean.high:.2f}]"


def _speeds(runs: RunTable, workload: str, contender: str) -> np.ndarray:
    """Returns the speed of each run relative to the reference's median."""
    on_workload = runs.evaluation_on(workload)
    steps = on_workload.set_index("contender")["steps_to_target"].dropna()
    own = steps[steps.index == contender].to_numpy()
    reference = steps[steps.index == runs.reference]
    usual = reference.median() if len(reference) else math.inf
    return usual / own if math.isfinite(usual) else np.array([])


def tuned_settings(runs: RunTable) -> Iterator[Markup]:
    """Yields the tuned settings, their results and all hyper-parameters."""
    yield table(
        ["workload", "optimizer", "learning rate", "settings tried", "steps of tuning"],
        [
            (
                row["workload"],
                row["contender"],
                row["setting"],
                _tried(row),
                f"{row['tuning_steps']:,}",
            )
            for row in runs.tuned.to_dict("records")
        ],
    )
    for workload, metric in runs.metrics.items():
        yield element("h3", workload)
        summary = tables.summarize(runs, workload)
        yield table(tables.headings(metric), map(tables.cells, summary))
        yield element("p", tables.caption(runs, workload), kind="soft")
    configurations = {
        (record.workload, record.contender): _configuration(record)
        for record in runs.records
        if record.phase == "compare"
    }
    if configurations:
        yield element(
            "details",
            element("summary", "All hyper-parameters of the tuned optimizers"),
            table(
                ["workload", "optimizer", "configuration"],
                [(*whose, text) for whose, text in configurations.items()],
            ),
        )


def _tried(row: dict[str, Any]) -> str:
    """Returns how many settings were tried, and how many of their runs were pruned."""
    if not row["trials"]:
        return "fixed"
    pruned = row["pruned_runs"]
    more = f", {_count(pruned, 'run')} pruned" if pruned else ""
    return f"{row['trials']}{more}"


def _configuration(record: Record) -> str:
    return ", ".join(
        f"{key.removeprefix('optimizer.')} {value}"
        for key, value in record.params.items()
        if key.startswith("optimizer.") and value != "None"
    )


def lost_runs(runs: RunTable) -> Iterator[Markup]:
    """Yields the runs that failed or diverged, with their reasons."""
    nothing = runs.tuned[runs.tuned["setting"] == NONE_WORKED]
    for row in nothing.to_dict("records"):
        yield element(
            "p",
            f"No setting of {row['contender']} worked on {row['workload']}, so it was "
            "not judged there.",
        )
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in runs.records:
        if record.status in ("diverged", "failed"):
            phase = PHASES[record.phase]
            whose = (record.workload, record.contender, phase, record.status)
            groups.setdefault(whose, []).append(record)
    if not groups:
        yield element("p", "No run failed, and none diverged.")
        return
    yield table(
        ["workload", "optimizer", "phase", "how", "runs", "settings", "reasons"],
        [
            (*whose, str(len(records)), _settings(records), _reasons(records))
            for whose, records in groups.items()
        ],
    )


def _settings(records: list[Record]) -> str:
    return "; ".join(dict.fromkeys(str(record.setting) for record in records))


def _reasons(records: list[Record]) -> str:
    reasons = list(dict.fromkeys(record.reason for record in records))
    more = len(reasons) - EXAMPLES
    return "; ".join(reasons[:EXAMPLES]) + (f"; and {more} more" if more > 0 else "")


def provenance(runs: RunTable) -> Iterator[Markup]:
    """Yields the protocol in words, the data, and the software and hardware."""
    tune, compare = runs.tuning, runs.evaluation
    words = []
    if len(tune):
        words.append(
            f"Every optimizer was tuned on the validation data with "
            f"{_count(tune['seed'].nunique(), 'seed')} of its own."
        )
    if runs.tuner:
        words.append(
            f"The settings were chosen by {runs.tuner}. They are on no grid, so "
            "robustness is not judged."
        )
    if len(compare):
        words.append(
            f"The chosen settings were run with "
            f"{_count(compare['seed'].nunique(), 'fresh seed')} and judged on the test "
            "data. The same seed means the same initial weights and the same batches "
            "for all."
        )
    yield element("p", " ".join(words))
    if engines := " ".join(_engines(runs.records)):
        yield element("p", engines)
    yield table(
        ["workload", "data", "source", "digest", "batch size", "steps a run"],
        dict.fromkeys(
            (record.workload, *(record.params[key] for key in DATA))
            for record in runs.records
            if record.phase != "time"
        ),
    )
    values: dict[str, dict[str, None]] = {}
    for record in runs.records:
        for key, value in record.params.items():
            group, dot, name = key.partition(".")
            if key in ("backend", "floatx") or group in ("version", "machine") and dot:
                values.setdefault(name or SOFTWARE.get(key, key), {})[value] = None
    yield table(
        ["software and hardware", ""],
        [(name, " or ".join(seen)) for name, seen in values.items()],
    )


def _engines(records: Sequence[Record]) -> Iterator[str]:
    """Yields which runs were compiled, where their seconds come from, and what was not.

    A study that compiled nothing, and did not try to, yields nothing.
    """
    compiled = sum(record.params.get("engine") == "compiled" for record in records)
    timed = sum(record.phase == "time" for record in records)
    if compiled:
        yield f"{_count(compiled, 'run')} were made as compiled programs of JAX."
        yield (
            f"Their seconds follow from {_count(timed, 'short run')} by fit, each made "
            "alone."
            if timed
            else "They have no seconds, since no run was timed by fit."
        )
    reasons = {
        (record.contender, record.workload): record.params["why_fit"]
        for record in records
        if "why_fit" in record.params
    }
    for (contender, workload), reason in reasons.items():
        yield f"{contender} on {workload} ran by fit: {reason}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
