"""Endless steps of optimizers on one table, on the backend of the process.

The gradient has the form that the backend's `Embedding` gives it: ids and their rows on
TensorFlow and for our optimizers on PyTorch, the whole table for Keras's on PyTorch and
for all on JAX. A gradient of the whole table is made once, and not in the step.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

import keras_adaptive
from benchmarks import dense_contenders, harness
from benchmarks.on_tables import Table, drawn

LEARNING_RATE = 1e-3
BATCHES = 256
FAMILIES = {
    "tensorflow": ["SGD", "Adagrad", "RMSprop", "Adam", "AdamW", "Ftrl"],
    "torch": ["Adam"],
    "jax": ["Adam"],
}
BY_ROW: dict[str, dict[str, Any]] = {
    "deferred": {"sparse": "deferred"},
    "lazy": {"sparse": "lazy"},
}
OURS: dict[str, dict[str, dict[str, Any]]] = {
    "tensorflow": BY_ROW
    | {"deferred, row-wise": {"sparse": "deferred", "row_wise": True}},
    "torch": BY_ROW,
    "jax": {"dense": {"sparse": "dense"}},
}
"""The arguments of our contenders by label, by backend."""


class Problem:
    """A table and its gradients: ids differ from step to step, values stay the same."""

    def __init__(self, table: Table, ids: int, distribution: str = "uniform") -> None:
        self.ids = drawn(table, (BATCHES, ids), distribution)
        generator = np.random.default_rng(1)
        self.values = generator.normal(size=(ids, table.width)).astype("float32")
        self.table = table

    def distinct_rows(self) -> float:
        """Returns the mean number of distinct rows in a batch."""
        return float(np.mean([len(np.unique(batch)) for batch in self.ids]))

    @functools.cached_property
    def variable(self) -> keras.Variable:
        """The table, which the contenders share but on JAX."""
        return keras.Variable(keras.ops.zeros(self.table), name="table")

    @functools.cached_property
    def dense_gradient(self) -> Any:
        """The gradient of the first batch, with the zeros of all other rows."""
        gradient = np.zeros(self.table, "float32")
        np.add.at(gradient, self.ids[0], self.values)
        return keras.ops.convert_to_tensor(gradient)


def keras_steps(
    optimizer: keras.optimizers.Optimizer, problem: Problem, training: bool = False
) -> Iterator[Any]:
    """Yields steps of an optimizer of Keras or of this library.

    Args:
        optimizer: The optimizer.
        problem: The table.
        training: Whether to include the forward pass and its gradient; on TensorFlow.
    """
    optimizer.build([problem.variable])
    if keras.backend.backend() == "tensorflow":
        return on_tensorflow(optimizer, problem, training)
    if keras.backend.backend() == "jax":
        return on_jax(optimizer, problem)
    if isinstance(optimizer, keras_adaptive.optimizers.AdaptiveOptimizer):
        return on_torch_by_row(optimizer, problem)
    return on_torch(optimizer, problem)


def on_tensorflow(
    optimizer: keras.optimizers.Optimizer, problem: Problem, training: bool
) -> Iterator[Any]:
    """Yields steps in a `tf.function`."""
    import tensorflow as tf

    ids, values = tf.constant(problem.ids), tf.constant(problem.values)
    shape = tf.constant(problem.table, tf.int64)

    @tf.function
    def step(batch: tf.Tensor) -> None:
        gradient = tf.IndexedSlices(values, ids[batch], shape)
        if training:
            with tf.GradientTape() as tape:
                rows = keras.ops.take(problem.variable, ids[batch], axis=0)
                loss = tf.reduce_sum(tf.square(rows - values)) / 2
            gradient = tape.gradient(loss, problem.variable.value)
        optimizer.apply([gradient], [problem.variable])

    return endless(step)


def endless(step: Callable[[Any], object]) -> Iterator[Any]:
    """Yields a step of TensorFlow for each batch, over and over."""
    import tensorflow as tf

    batches = [tf.constant(batch) for batch in range(BATCHES)]
    while True:
        for batch in batches:
            yield step(batch)


def by_row_on_torch(problem: Problem) -> Iterator[Any]:
    """Yields gradients as sparse tensors of PyTorch, one for each batch."""
    import torch

    ids, values = torch.from_numpy(problem.ids), torch.from_numpy(problem.values)
    while True:
        for batch in ids:
            yield torch.sparse_coo_tensor(
                batch[None], values, problem.table, check_invariants=False
            )


def on_torch_by_row(
    optimizer: keras.optimizers.Optimizer, problem: Problem
) -> Iterator[Any]:
    """Yields steps by sparse gradients."""
    import torch

    apply = torch.no_grad()(optimizer.apply)
    for gradient in by_row_on_torch(problem):
        yield apply([gradient], [problem.variable])


def on_torch(optimizer: keras.optimizers.Optimizer, problem: Problem) -> Iterator[Any]:
    """Yields steps by the gradient of the whole table."""
    import torch

    apply = torch.no_grad()(optimizer.apply)
    while True:
        yield apply([problem.dense_gradient], [problem.variable])


def on_jax(optimizer: keras.optimizers.Optimizer, problem: Problem) -> Iterator[Any]:
    """Yields steps under `jax.jit` by the gradient of the whole table."""
    import jax

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(table: Any, state: Any, gradient: Any) -> Any:
        (table,), state = optimizer.stateless_apply(state, [gradient], [table])
        return table, state

    table = jax.numpy.zeros(problem.table, "float32")
    state = [variable.value for variable in optimizer.variables]
    while True:
        table, state = step(table, state, problem.dense_gradient)
        yield jax.block_until_ready(table)


def torch_steps(problem: Problem) -> Iterator[Any]:
    """Yields steps of torch's SparseAdam.

    Beside another backend it has one thread: two were a fifth faster on an idle machine
    of two cores, and many times slower on a busy one.
    """
    import torch

    if keras.backend.backend() != "torch":
        torch.set_num_threads(1)
    parameter = torch.nn.Parameter(torch.zeros(*problem.table))
    optimizer = torch.optim.SparseAdam([parameter], lr=LEARNING_RATE)
    for gradient in by_row_on_torch(problem):
        parameter.grad = gradient
        yield optimizer.step()


def optax_steps(problem: Problem) -> Iterator[Any]:
    """Yields steps of optax's Adam by the gradient of the whole table."""
    start = np.zeros(problem.table, "float32")
    return dense_contenders.optax_steps([start], [problem.dense_gradient])


def bare_steps(problem: Problem) -> Iterator[Any]:
    """Yields the operations of TensorFlow that no Adam can avoid."""
    import tensorflow as tf

    from keras_adaptive.optimizers.engine.tensorflow import rows

    tables = [tf.Variable(tf.zeros(problem.table)) for _ in range(3)]
    ids = tf.constant(problem.ids)

    @tf.function(autograph=False)
    def step(batch: tf.Tensor) -> None:
        distinct, _ = tf.unique(ids[batch])
        for table in tables:
            rows.scatter(table, distinct, rows.gather(table, distinct))

    return endless(step)


PEERS = {
    "tensorflow": ("torch", torch_steps),
    "torch": ("torch", torch_steps),
    "jax": ("optax", optax_steps),
}
"""The library whose Adam takes part, and its steps, by backend."""


def contenders(
    backend: str, family: str, training: bool = False
) -> dict[str, Callable[[Problem], Iterator[Any]]]:
    """Returns functions that make endless steps of a family's optimizers, by label.

    The functions work in a process of the backend.
    """

    def maker(module: Any, **arguments: Any) -> Callable[[Problem], Iterator[Any]]:
        cls = getattr(module.optimizers, family)
        return lambda problem: keras_steps(
            cls(LEARNING_RATE, **arguments), problem, training
        )

    found = {"Keras": maker(keras)}
    ours = getattr(keras_adaptive.optimizers, family)
    for label, arguments in OURS[backend].items():
        if "row_wise" not in arguments or accepts_row_wise(ours):
            found[label] = maker(keras_adaptive, **arguments)
    if family == "Adam" and not training:
        peer, steps = PEERS[backend]
        if harness.installed(peer):
            found[peer] = steps
        if backend == "tensorflow":
            found["bare operations"] = bare_steps
    return found


def accepts_row_wise(cls: type) -> bool:
    """Says whether an optimizer can keep one value for each row."""
    try:
        cls(row_wise=True)
    except (TypeError, ValueError):
        return False
    return True
