"""Line styles and labels that all figures share."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

LineStyle = dict[str, Any]
"""Arguments of `Axes.plot`."""

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = {
    "sgd": "#000000",
    "adagrad": "#E69F00",
    "rmsprop": "#CC79A7",
    "adam": "#0072B2",
    "adamw": "#009E73",
}
# The rest of Okabe and Ito's colours except yellow, which is pale on white, and a grey.
MORE_COLOURS = ("#D55E00", "#56B4E9", "#777777")
SHAPES = "osD^vP*X"
LABEL_LETTERS = 24


def line_styles(contenders: Iterable[str]) -> dict[str, LineStyle]:
    """Returns a line style for each contender, all different.

    All implementations of an algorithm have one colour. Keras's lines are dashed.

    Args:
        contenders: Labels such as `"keras/adam"`.

    Example:
        >>> styles = line_styles(["adam", "keras/adam"])
        >>> [(style["color"], style["marker"]) for style in styles.values()]
        [('#0072B2', 'o'), ('#0072B2', 's')]
    """
    colours: dict[str, str] = {}
    more = 0
    styles = {}
    for number, name in enumerate(dict.fromkeys(contenders)):
        algorithm = name.rpartition("/")[2].partition("-")[0].lower()
        if algorithm not in colours:
            colours[algorithm] = COLOURS.get(
                algorithm, MORE_COLOURS[more % len(MORE_COLOURS)]
            )
            more += algorithm not in COLOURS
        styles[name] = {
            "color": colours[algorithm],
            "marker": SHAPES[number % len(SHAPES)],
            "linestyle": (0, (4, 1.5)) if name.startswith("keras/") else "-",
        }
    return styles


def metric_label(metric: str) -> str:
    r"""Returns the label of an axis, in lines that fit beside a panel.

    Example:
        >>> metric_label("root_mean_squared_error")
        'validation root mean\nsquared error'
    """
    return textwrap.fill(f"validation {metric}".replace("_", " "), LABEL_LETTERS)
