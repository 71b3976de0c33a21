"""Sparse gradients, summed by row or made dense."""

from __future__ import annotations

from typing import Any

from keras_adaptive.optimizers.engine.backend import is_sparse
from keras_adaptive.optimizers.engine.row_gradient import Rows
from keras_adaptive.optimizers.engine.sparse.primitives import rows


def by_row(gradient: Any, variable: Any) -> tuple[Any, Any]:
    """Returns a gradient summed by row, as `(ids, values)`.

    A dense gradient is returned as it is, with `None` for its ids.
    """
    if not is_sparse(gradient):
        return None, gradient
    height = int(variable.shape[0])
    summed = rows.coalesce(*rows.parts(gradient, variable), height, variable.path)
    return summed.ids, summed.values


def dense(gradient: Any, variable: Any) -> Any:
    """Returns a gradient as a dense tensor."""
    ids, values = by_row(gradient, variable)
    if ids is None:
        return gradient
    return rows.dense(Rows(ids, values), tuple(variable.shape))
