"""The curve of a run as tags.

MLflow's search returns the tags of each run, but of each metric only the last value.
The points of a curve would take a request for each metric of each run.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence

from keras_adaptive.study.ledger.record import Point
from keras_adaptive.study.ledger.run_values import LONGEST_VALUE

CURVE = "mlflow.keras_adaptive.curve."
"""Precedes the number of a tag. MLflow's pages do not show tags that begin so."""

MOST_TAGS = 10
"""A longer curve has no tags, so that a page of runs stays small."""


def tags_of_curve(curve: Sequence[Point]) -> dict[str, str]:
    """Returns the tags that hold a curve; none if it is too long for them.

    Args:
        curve: The points.
    """
    points = [[each.step, each.seconds, each.timestamp, each.metrics] for each in curve]
    packed = b64encode(zlib.compress(json.dumps(points).encode())).decode()
    starts = range(0, len(packed), LONGEST_VALUE)
    if len(starts) > MOST_TAGS:
        return {}
    return {
        f"{CURVE}{number}": packed[start : start + LONGEST_VALUE]
        for number, start in enumerate(starts)
    }


def curve_of_tags(tags: Mapping[str, str]) -> tuple[Point, ...] | None:
    """Returns the curve that tags hold, `None` if they hold none.

    Args:
        tags: The tags of a run.
    """
    names = (f"{CURVE}{number}" for number in range(MOST_TAGS))
    packed = "".join(tags[name] for name in names if name in tags)
    if not packed:
        return None
    points = json.loads(zlib.decompress(b64decode(packed)))
    return tuple(Point(*point) for point in points)
