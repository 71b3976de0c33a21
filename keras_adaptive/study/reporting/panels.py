"""Figures with panels in rows, and the parts that all figures share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_adaptive.errors import needs_extra

with needs_extra("study"):
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

WIDTH = 11.0
PANELS_A_ROW = 3
INCHES_A_NAME = 2.7


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """Returns an empty figure that can be saved without pyplot.

    Args:
        width: Width in inches.
        height: Height in inches.
        **options: Further arguments of `Figure`.
    """
    figure = Figure(figsize=(width, height), **options)
    FigureCanvasAgg(figure)
    return figure


def panel_figure(
    count: int, height: float, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """Returns a figure with some panels in rows, and the panels.

    Args:
        count: The number of panels.
        height: Height of a row in inches.
        sharey: Whether all panels have one y axis.
    """
    columns = min(count, PANELS_A_ROW)
    rows = -(-count // columns)
    width = WIDTH * (0.35 + 0.65 * columns / PANELS_A_ROW)
    figure = new_figure(width, height * rows + 0.6, layout="constrained")
    engine: Any = figure.get_layout_engine()
    engine.set(wspace=0.06)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=sharey).ravel()
    for empty in grid[count:]:
        empty.remove()
    panels = list(grid[:count])
    for panel in panels:
        tidy(panel)
    return figure, panels


def tidy(panel: Axes) -> None:
    """Gives a panel a pale grid and removes the upper and the right frame."""
    panel.grid(color="0.9", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def legend_below(figure: Figure, handles: Sequence[Line2D]) -> None:
    """Puts a legend below all panels of a figure."""
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), int(figure.get_figwidth() / INCHES_A_NAME)),
        frameon=False,
    )
