"""What is found when a program is tried."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What was found when a program was tried.

    Args:
        reason: Why the runs cannot be compiled; empty if they can.
        replicas: The number of runs side by side.
    """

    reason: str = ""
    replicas: int = 1
