"""Sparse gradients on PyTorch: coalesce, gather, scatter, in O(rows).

A row is an index of the first axis of a variable. Nothing here reads or writes a whole
table. In a `keras.StatelessScope`, where nothing may be written, the scope gets a copy
of the table with the new rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from keras import ops

from keras_adaptive.optimizers.engine.backend import raw
from keras_adaptive.optimizers.engine.row_gradient import Rows
from keras_adaptive.optimizers.engine.torch.scope import within_scope

BLOCK = 16_384


def in_xla() -> bool:
    """Returns whether shapes are static, as under XLA: never."""
    return False


def sparse_by_row(gradient: torch.Tensor) -> torch.Tensor:
    """Returns a gradient that is dense, or sparse along its first axis alone."""
    if gradient.layout == torch.strided:
        return gradient
    if gradient.is_sparse and gradient.sparse_dim() == 1:
        return gradient
    return gradient.to_dense()


def parts(gradient: torch.Tensor, variable: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the ids and the values of a sparse gradient, with equal ids summed."""
    gradient = gradient.coalesce()
    return gradient.indices()[0], gradient.values()


def after(gradient: torch.Tensor, value: Any) -> Any:
    """Returns a value: the forward pass is over."""
    return value


def replaced(vector: torch.Tensor, place: torch.Tensor, entry: float) -> torch.Tensor:
    """Returns a vector with another entry at one place."""
    vector = vector.clone()
    vector[place] = entry
    return vector


def checked_ids(ids: torch.Tensor, height: int, name: str) -> torch.Tensor:
    """Returns the ids, after a check that all are in the table.

    Args:
        ids: int64 tensor of shape `(n,)`, in ascending order.
        height: Number of rows of the table.
        name: Name of the table.

    Raises:
        ValueError: Some are outside.
    """
    if ids.numel() and not (ids[0] >= 0 and ids[-1] < height):
        outside = ids[(ids < 0) | (ids >= height)].tolist()
        raise ValueError(
            f"The sparse gradient of '{name}' has row ids outside [0, {height}). "
            "Check the ids of the batch, or give the table more rows. Outside are: "
            f"{outside}"
        )
    return ids


def coalesce(ids: torch.Tensor, values: torch.Tensor, height: int, name: str) -> Rows:
    """Returns a gradient by row.

    Args:
        ids: The ids that `parts` returned. They are checked.
        values: Float tensor of shape `(n, ...)`.
        height: Number of rows of the table.
        name: Name of the table.
    """
    return Rows(checked_ids(ids, height, name), values)


def dense(rows: Rows, shape: tuple[int, ...]) -> torch.Tensor:
    """Returns the gradient with all its zeros, of the table's shape."""
    values = rows.values
    zeros = torch.zeros(shape, dtype=values.dtype, device=values.device)
    return zeros.index_copy_(0, rows.ids, values)


def gather(variable: Any, ids: torch.Tensor) -> torch.Tensor:
    """Reads rows of a Keras variable or a tensor."""
    return torch.index_select(raw(variable).detach(), 0, ids)


def zero_unused(values: torch.Tensor, ids: torch.Tensor, height: int) -> torch.Tensor:
    """Returns the values: there are no unused places."""
    return values


def scatter(variable: Any, ids: torch.Tensor, values: torch.Tensor) -> None:
    """Overwrites rows of a Keras variable."""
    table = raw(variable).detach()
    values = values.to(table.dtype)
    if within_scope():
        variable.assign(table.index_copy(0, ids, values))
    else:
        table.index_copy_(0, ids, values)


def next_block(cursor: Any, size: Any, height: int) -> torch.Tensor:
    """Returns the ids of the next `size` rows in turn, starting over after the last.

    Args:
        cursor: int64 scalar variable, the first row of the block; moved on.
        size: Number of rows, at most `height`.
        height: Number of rows of the table.
    """
    start, device = int(cursor.value), cursor.value.device
    ids = torch.arange(start, start + int(size), device=device) % height
    cursor.assign((start + int(size)) % height)
    return ids


def for_each_block(height: int, function: Callable[[torch.Tensor], None]) -> None:
    """Calls `function(ids)` for blocks of consecutive rows, the whole table."""
    for start in range(0, height, BLOCK):
        function(ops.arange(start, min(start + BLOCK, height), dtype="int64"))


def add_pending(ids: torch.Tensor, queue: Any, queued: Any, count: Any) -> None:
    """Puts the rows that are not queued yet at the end of the queue.

    Args:
        ids: Unique row ids.
        queue: int64 variable of shape `(height + 1,)`.
        queued: bool variable of shape `(height,)`.
        count: int64 scalar variable, the length of the queue.
    """
    fresh = ids[~gather(queued, ids)]
    length = int(count.value)
    place = torch.arange(length, length + len(fresh), device=ids.device)
    scatter(queue, place, fresh)
    scatter(queued, fresh, torch.ones_like(fresh))
    count.assign(length + len(fresh))


def drain_pending(queue: Any, queued: Any, count: Any) -> torch.Tensor:
    """Empties the queue of `add_pending` and returns the ids that it held."""
    place = torch.arange(int(count.value), device=queue.value.device)
    ids = gather(queue, place)
    scatter(queued, ids, torch.zeros_like(ids))
    count.assign(0)
    return ids


def can_look_up(ids: Any) -> bool:
    """Returns whether `lookup` works here.

    It does not where Keras only asks for shapes, nor within `torch.compile`.
    """
    only_shapes = isinstance(ids, torch.Tensor) and ids.is_meta
    return not only_shapes and not torch.compiler.is_compiling()


def lookup(variable: Any, ids: torch.Tensor, optimizer: Any) -> torch.Tensor:
    """Returns rows as they are now. Their gradient has each row once.

    Args:
        variable: The table, a Keras variable.
        ids: Integer tensor of any shape.
        optimizer: The optimizer that updates the table.
    """
    unique, places = torch.unique(ids.reshape(-1), return_inverse=True)
    taken = distinct(variable, unique, optimizer).index_select(0, places)
    return taken.reshape(*ids.shape, *taken.shape[1:])


def distinct(variable: Any, ids: torch.Tensor, optimizer: Any) -> torch.Tensor:
    """Returns distinct rows as they are now.

    Args:
        variable: The table, a Keras variable.
        ids: int64 tensor of shape `(n,)`, without repetitions, in ascending order.
        optimizer: The optimizer that updates the table.
    """
    with torch.no_grad():
        values = optimizer.rows_now(variable, ids)
    return _Distinct.apply(raw(variable), ids, values, optimizer.sees_sparse_gradients)


class _Distinct(torch.autograd.Function):
    """Stands for rows of a table, which gets their gradient, sparse or dense."""

    @staticmethod
    def forward(
        ctx: Any,
        table: torch.Tensor,
        ids: torch.Tensor,
        values: torch.Tensor,
        sparse: bool,
    ) -> torch.Tensor:
        ctx.save_for_backward(ids)
        ctx.shape, ctx.sparse = table.shape, sparse
        return values

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[Any, None, None, None]:
        (ids,) = ctx.saved_tensors
        gradient = torch.sparse_coo_tensor(
            ids[None], upstream, ctx.shape, check_invariants=False, is_coalesced=True
        )
        return gradient if ctx.sparse else gradient.to_dense(), None, None, None
