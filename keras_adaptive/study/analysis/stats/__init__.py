"""Statistics as pure functions over arrays.

Functions that draw take a seed or a generator; there is no global random state.
Infinity is a valid value: the cost of a target that was never reached, or the loss of a
run that diverged. Hence medians, never means. NaN is an error.
"""
