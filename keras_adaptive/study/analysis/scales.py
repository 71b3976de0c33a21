"""Scales: how a gain reads as an effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scale:
    """The effect that a gain stands for. A gain above 0 means better.

    Args:
        neutral: The effect of no difference.
        effect: Maps a gain to its effect, rising.
        form: The format of an effect.
        words: The effect in words, with `{}` for its value and interval and
            `{reference}` for the contender that it is relative to.
    """

    neutral: float
    effect: Callable[[float], float]
    form: str
    words: str

    def write(self, gain: float) -> str:
        """Returns the effect of a gain as text."""
        return format(self.effect(gain), self.form).replace("inf", "∞")


RATIO = Scale(
    neutral=1.0,
    effect=lambda gain: float(np.exp(gain)),
    form=".3g",
    words="{} times as fast as {reference}",
)
DIFFERENCE = Scale(
    neutral=0.0,
    effect=float,
    form="+.3g",
    words="A gain of {} over {reference}",
)
LEAD = Scale(
    neutral=0.0,
    effect=float,
    form="+.0%",
    words="{} of the pairs won minus lost against {reference}",
)


def lead(gains: np.ndarray) -> float:
    """Returns the share of the pairs that were won minus the share that were lost.

    Example:
        >>> lead(np.array([0.1, 0.2, -0.1, 0.0]))
        0.25
    """
    return float(np.mean(np.sign(gains)))
