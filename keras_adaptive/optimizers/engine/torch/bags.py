"""Products of a sparse matrix and a table on PyTorch, in O(touched rows)."""

from __future__ import annotations

from typing import Any

import torch

from keras_adaptive.optimizers.engine.backend import raw
from keras_adaptive.optimizers.engine.torch import rows


def is_matrix(inputs: Any) -> bool:
    """Returns whether `product` takes inputs: sparse matrices, by entries or by row."""
    return (
        isinstance(inputs, torch.Tensor)
        and inputs.layout in (torch.sparse_coo, torch.sparse_csr)
        and inputs.dim() == 2
        and rows.can_look_up(inputs)
    )


def product(matrix: torch.Tensor, variable: Any, optimizer: Any | None) -> torch.Tensor:
    """Returns a sparse matrix times a table.

    Args:
        matrix: Float tensor of shape `(batch, height)`, COO or CSR.
        variable: The table, a Keras variable of shape `(height, width)`.
        optimizer: The optimizer that updates the table; its rows are read as they are
            now. Without one the gradient is dense, which every optimizer takes.
    """
    matrix = (matrix if matrix.is_sparse else matrix.to_sparse()).coalesce()
    texts, words = matrix.indices()
    ids, places = torch.unique(words, return_inverse=True)
    if optimizer is None:
        taken = raw(variable).index_select(0, ids)
    else:
        taken = rows.distinct(variable, ids, optimizer)
    # Distinct words are in ascending order, so the entries stay in order.
    compact = torch.sparse_coo_tensor(
        torch.stack([texts, places]),
        matrix.values().to(taken.dtype),
        (matrix.shape[0], len(ids)),
        check_invariants=False,
        is_coalesced=True,
    )
    return torch.sparse.mm(compact, taken)
