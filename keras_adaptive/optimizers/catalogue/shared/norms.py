"""Norms of whole variables, and steps in proportion to them."""

from __future__ import annotations

from keras import ops


def squared_norm(values):
    """The sum of all squares."""
    return ops.sum(ops.square(values))


def norm(values):
    """The root of the sum of all squares; `ops.norm` passes through float32."""
    return ops.sqrt(squared_norm(values))


def trust_ratio(numerator, denominator, trusted):
    """The ratio where `trusted`, a bool tensor, else one."""
    one = ops.ones_like(denominator)
    ratio = numerator / ops.where(trusted, denominator, one)
    return ops.where(trusted, ratio, one)
