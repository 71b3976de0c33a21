"""The values of a run as MLflow stores them: parameters, metrics and tags."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from keras_adaptive.study.design.setting import Setting
from keras_adaptive.study.ledger.record import Point, Record

LONGEST_VALUE = 5_000
MARKS = ("workload", "contender", "learning_rate", "seed", "phase")
SECONDS = "train_seconds"
NON_FINITE = "non_finite."
HYPERPARAMETER = "hyperparameter."
NON_FINITE_VALUE = re.compile(r"(\S+) at step (\d+)")


class Measurement(NamedTuple):
    """One value of a metric."""

    name: str
    value: float
    timestamp: int
    step: int


def flatten(config: Mapping[str, Any], prefix: str) -> dict[str, str]:
    """Flattens a nested configuration into MLflow parameters.

    Args:
        config: A `get_config()`; a schedule in it is a mapping too.
        prefix: Precedes each name, with a dot.

    Returns:
        Each value as a string, by its dotted name.

    Example:
        >>> flatten({"rate": {"steps": 3}, "beta": None}, "optimizer")
        {'optimizer.rate.steps': '3', 'optimizer.beta': 'None'}
    """
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}.{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, name)
        else:
            flat[name] = str(value)[:LONGEST_VALUE]
    return flat


def identity(record: Record) -> dict[str, str]:
    """Returns the values that identify a run, which are both its tags and parameters.

    MLflow's filters see only a run's own tags and parameters.
    """
    rate = repr(record.setting.learning_rate)
    marks = record.workload, record.contender, rate, str(record.seed), record.phase
    return dict(zip(MARKS, marks, strict=True))


def measurements(record: Record) -> list[Measurement]:
    """Returns all values that a run measured, those that are not finite too."""
    last = record.curve[-1].step if record.curve else 0
    return [
        *(
            Measurement(name, value, point.timestamp, point.step)
            for point in record.curve
            for name, value in (*point.metrics.items(), *_seconds(point))
        ),
        *(
            Measurement(name, value, record.ended, last)
            for name, value in record.numbers.items()
        ),
    ]


def _seconds(point: Point) -> list[tuple[str, float]]:
    """Returns the seconds of a point if they are known."""
    return [] if math.isnan(point.seconds) else [(SECONDS, point.seconds)]


def tags_of(record: Record, measured: Sequence[Measurement]) -> dict[str, str]:
    """Returns the tags of a run.

    MLflow stores finite numbers only. Infinity and NaN become the tag
    `non_finite.<name>`, which gives the last of them and its step.

    Args:
        record: The run.
        measured: Its `measurements`.
    """
    tags = {
        **identity(record),
        **{
            NON_FINITE + each.name: f"{each.value} at step {each.step}"
            for each in measured
            if not math.isfinite(each.value)
        },
        "key": record.key,
        "status": record.status,
        "metric": record.metric,
        "direction": record.direction,
        "data_digest": record.params["data_digest"],
    }
    if record.reason:
        tags["reason"] = record.reason[:LONGEST_VALUE]
    if record.setting.extra_hyperparameter:
        name, value = record.setting.extra_hyperparameter
        tags |= {"second": name, HYPERPARAMETER + name: repr(value)}
    return tags


def is_curve(name: str) -> bool:
    """Says whether a metric is measured repeatedly during a run."""
    return name.startswith(("train_", "val_")) or name in ("learning_rate", "epoch")


def non_finite(tags: Mapping[str, str], timestamp: int) -> Iterator[Measurement]:
    """Yields the measurements that `tags_of` has made tags of.

    Args:
        tags: The tags of a run.
        timestamp: The time that they get.
    """
    for tag, text in tags.items():
        parsed = (
            NON_FINITE_VALUE.fullmatch(text) if tag.startswith(NON_FINITE) else None
        )
        if parsed:
            name, (value, step) = tag.removeprefix(NON_FINITE), parsed.groups()
            yield Measurement(name, float(value), timestamp, int(step))


def curve_of(measured: Sequence[Measurement]) -> tuple[Point, ...]:
    """Returns the points of a curve, in the order of the steps."""
    points: dict[int, Point] = {}
    for each in measured:
        point = points.setdefault(
            each.step, Point(each.step, math.nan, each.timestamp, {})
        )
        if each.name == SECONDS:
            points[each.step] = replace(point, seconds=each.value)
        else:
            point.metrics[each.name] = each.value
    return tuple(points[step] for step in sorted(points))


def setting_of(tags: Mapping[str, str]) -> Setting:
    """Returns the setting that a run's tags tell."""
    extra = tags.get("second")
    if not extra:
        return Setting(float(tags["learning_rate"]))
    # Records of before have no prefix.
    value = tags.get(HYPERPARAMETER + extra) or tags[extra]
    return Setting(float(tags["learning_rate"]), (extra, float(value)))
