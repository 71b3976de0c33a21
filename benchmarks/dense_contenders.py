"""Endless steps of optimizers with dense gradients, on the backend of the process.

A step is `optimizer.apply`: on TensorFlow in a `tf.function` without XLA, as in `fit`
on a CPU; on PyTorch as it stands; on JAX as a `stateless_apply` under `jax.jit`, with
donated buffers.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

import keras_adaptive
from benchmarks import backends, harness
from keras_adaptive.optimizers.contract.slot import Slot

LEARNING_RATE = 1e-3
FAMILIES: dict[str, dict[str, float]] = {
    "Adam": {},
    "RMSprop": {},
    "Adagrad": {},
    "Adamax": {},
    "Nadam": {},
    "Lion": {},
    "SGD": {"momentum": 0.9},
    "AdamW": {},
}
PEERS = {"tensorflow": ["torch", "optax"], "torch": ["torch"], "jax": ["optax"]}
"""The libraries whose Adam takes part, by backend."""


class OneSum(keras_adaptive.optimizers.AdaptiveOptimizer):
    """Keeps a sum of gradients and does not use it."""

    slots = {"first": Slot()}

    def rule(self, gradient: Any, state: Any, hyper: Any) -> Any:
        """Returns the step of SGD, and the sums."""
        sums = {name: 0.9 * old + gradient for name, old in state.items()}
        return hyper.learning_rate * gradient, sums


class TwoSums(OneSum):
    """Keeps two sums."""

    slots = {"first": Slot(), "second": Slot()}


AS_MANY_BYTES = {"Adam": TwoSums, "Adagrad": OneSum}


class Case(NamedTuple):
    """Variables of a model: `layers` kernels, each with a bias if there are several."""

    layers: int
    side: int

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the variables."""
        square = self.side, self.side
        return [square] if self.layers == 1 else self.layers * [square, (self.side,)]

    def __str__(self) -> str:
        square = f"{self.side} × {self.side}"
        if self.layers == 1:
            return square
        return f"{self.layers} × ({square} + {self.side})"


class Problem:
    """Variables, and a constant gradient for each."""

    def __init__(self, case: Case) -> None:
        generator = np.random.default_rng(0)

        def numbers() -> list[np.ndarray]:
            return [generator.normal(size=s).astype("float32") for s in case.shapes]

        self.case = case
        self.start, self.slopes = numbers(), numbers()
        self.variables = [keras.Variable(start) for start in self.start]

    @functools.cached_property
    def gradients(self) -> list[Any]:
        """The gradients, as tensors of the backend."""
        if keras.backend.backend() != "tensorflow":
            return [keras.ops.convert_to_tensor(slope) for slope in self.slopes]
        import tensorflow as tf

        # Variables, since TensorFlow computes with small constants ahead of time.
        return [tf.Variable(slope, trainable=False) for slope in self.slopes]


def keras_steps(
    optimizer: keras.optimizers.Optimizer, problem: Problem
) -> Iterator[Any]:
    """Yields steps of an optimizer of Keras or of this library."""
    optimizer.build(problem.variables)
    steps = {"tensorflow": on_tensorflow, "torch": on_torch, "jax": on_jax}
    yield from steps[keras.backend.backend()](optimizer, problem)


def on_tensorflow(
    optimizer: keras.optimizers.Optimizer, problem: Problem
) -> Iterator[Any]:
    """Yields steps in a `tf.function`."""
    import tensorflow as tf

    @functools.partial(tf.function, autograph=False)
    def step() -> None:
        gradients = [tf.convert_to_tensor(g) for g in problem.gradients]
        optimizer.apply(gradients, problem.variables)

    while True:
        yield step()


def on_torch(optimizer: keras.optimizers.Optimizer, problem: Problem) -> Iterator[Any]:
    """Yields steps as `fit` makes them on PyTorch."""
    import torch

    apply = torch.no_grad()(optimizer.apply)
    while True:
        yield apply(problem.gradients, problem.variables)


def on_jax(optimizer: keras.optimizers.Optimizer, problem: Problem) -> Iterator[Any]:
    """Yields steps under `jax.jit`."""
    import jax

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(parameters: Any, state: Any, gradients: Any) -> Any:
        return optimizer.stateless_apply(state, gradients, parameters)

    parameters = [jax.numpy.array(start) for start in problem.start]
    state = [variable.value for variable in optimizer.variables]
    while True:
        parameters, state = step(parameters, state, problem.gradients)
        yield jax.block_until_ready(parameters)


def torch_steps(problem: Problem, way: str) -> Iterator[Any]:
    """Yields steps of torch's Adam, `"fused"` or `"foreach"`."""
    import torch

    backends.use_all_cores()
    parameters = [torch.nn.Parameter(torch.tensor(start)) for start in problem.start]
    for parameter, slope in zip(parameters, problem.slopes, strict=True):
        parameter.grad = torch.tensor(slope)
    optimizer = torch.optim.Adam(parameters, LEARNING_RATE, **{way: True})
    while True:
        yield optimizer.step()


def optax_steps(start: Sequence[Any], gradients: Sequence[Any]) -> Iterator[Any]:
    """Yields steps of optax's Adam under `jax.jit`.

    Args:
        start: The parameters at the start, as arrays.
        gradients: Their gradients, the same in every step.
    """
    import jax
    import optax

    adam = optax.adam(LEARNING_RATE)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(parameters: Any, state: Any, gradients: Any) -> Any:
        updates, state = adam.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state

    parameters = [jax.numpy.array(each) for each in start]
    gradients = [jax.numpy.asarray(each) for each in gradients]
    state = adam.init(parameters)
    while True:
        parameters, state = step(parameters, state, gradients)
        yield jax.block_until_ready(parameters)


def contenders(family: str) -> dict[str, Callable[[Problem], Iterator[Any]]]:
    """Returns functions that make endless steps of a family's optimizers, by label."""

    def maker(module: Any) -> Callable[[Problem], Iterator[Any]]:
        cls = getattr(module, family)
        arguments = FAMILIES[family]
        return lambda problem: keras_steps(cls(LEARNING_RATE, **arguments), problem)

    found = {
        f"Keras {family}": maker(keras.optimizers),
        family: maker(keras_adaptive.optimizers),
    }
    if family in AS_MANY_BYTES:
        floor = AS_MANY_BYTES[family]
        found[f"as many bytes as {family}"] = lambda problem: keras_steps(
            floor(LEARNING_RATE), problem
        )
    peers = PEERS[keras.backend.backend()] if family == "Adam" else []
    if "torch" in peers and harness.installed("torch"):
        for way in ("fused", "foreach"):
            found[f"torch Adam, {way}"] = functools.partial(torch_steps, way=way)
    if "optax" in peers and harness.installed("optax"):
        found["optax adam, jit"] = lambda problem: optax_steps(
            problem.start, problem.slopes
        )
    return found
