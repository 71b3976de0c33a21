"""Time of one optimizer step with dense gradients, compared with peers.

    python -m benchmarks.dense_step
    python -m benchmarks.dense_step --families Adam Lion --seconds 60

A step is `optimizer.apply` in a `tf.function` without XLA, as in `fit` on a CPU. For
Adam and Adagrad there is also an optimizer that moves as many bytes in the same way and
computes almost nothing. torch's Adam (fused and foreach) and optax's (under `jax.jit`
with donated buffers) take part if they are installed. All use one thread a core.
"""

import functools
import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

import keras_adaptive
from benchmarks import harness
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


CASES = [Case(1, 4096), Case(60, 256), Case(200, 64)]
QUICK_CASES = [Case(1, 256), Case(3, 128), Case(10, 8)]


class Problem:
    """Variables, and a constant gradient for each."""

    def __init__(self, case: Case) -> None:
        generator = np.random.default_rng(0)

        def numbers() -> list[np.ndarray]:
            return [generator.normal(size=s).astype("float32") for s in case.shapes]

        self.case = case
        self.start, self.slopes = numbers(), numbers()
        self.variables = [keras.Variable(start) for start in self.start]
        # Variables, since TensorFlow computes with small constants ahead of time.
        self.gradients = [tf.Variable(slope, trainable=False) for slope in self.slopes]


def keras_steps(
    optimizer: keras.optimizers.Optimizer, problem: Problem
) -> Iterator[Any]:
    """Yields steps of an optimizer of Keras or of this library."""
    optimizer.build(problem.variables)

    @functools.partial(tf.function, autograph=False)
    def step() -> None:
        gradients = [tf.convert_to_tensor(g) for g in problem.gradients]
        optimizer.apply(gradients, problem.variables)

    while True:
        yield step()


def torch_steps(problem: Problem, way: str) -> Iterator[Any]:
    """Yields steps of torch's Adam, `"fused"` or `"foreach"`."""
    import torch

    torch.set_num_threads(harness.threads())
    parameters = [torch.nn.Parameter(torch.tensor(start)) for start in problem.start]
    for parameter, slope in zip(parameters, problem.slopes, strict=True):
        parameter.grad = torch.tensor(slope)
    optimizer = torch.optim.Adam(parameters, LEARNING_RATE, **{way: True})
    while True:
        yield optimizer.step()


def optax_steps(problem: Problem) -> Iterator[Any]:
    """Yields steps of optax's Adam under `jax.jit`."""
    import jax
    import optax

    adam = optax.adam(LEARNING_RATE)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(parameters: Any, state: Any, gradients: Any) -> Any:
        updates, state = adam.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state

    parameters = [jax.numpy.array(start) for start in problem.start]
    gradients = [jax.numpy.array(slope) for slope in problem.slopes]
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
    if family == "Adam" and harness.installed("torch"):
        for way in ("fused", "foreach"):
            found[f"torch Adam, {way}"] = functools.partial(torch_steps, way=way)
    if family == "Adam" and harness.installed("optax"):
        found["optax adam, jit"] = optax_steps
    return found


def summarize(family: str, samples: pd.DataFrame) -> pd.DataFrame:
    """Returns the quartiles of the time, and of Keras's time over the time."""
    return pd.DataFrame(
        {
            "optimizer": label,
            "family": family,
            "variables": str(case),
            "rounds": len(samples),
        }
        | harness.quartiles(
            milliseconds=samples[label, case],
            times_as_fast=samples[f"Keras {family}", case] / samples[label, case],
        )
        for label, case in samples.columns
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = harness.parser(__doc__)
    parser.add_argument(
        "--families",
        nargs="+",
        choices=list(FAMILIES),
        default=list(FAMILIES),
        metavar="NAME",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        help="for each family; at least 5 rounds (default: 12)",
    )
    options = parser.parse_args(argv)
    seconds = options.seconds or (1 if options.quick else 12)
    problems = [Problem(case) for case in (QUICK_CASES if options.quick else CASES)]
    parts = []
    for family in options.families:
        steps = {
            (label, problem.case): make(problem)
            for problem in problems
            for label, make in contenders(family).items()
        }
        parts.append(summarize(family, harness.measure(steps, seconds)))
        print(f"{family}: {harness.rounds_of(parts[-1])}", flush=True)
        del steps
        gc.collect()
    summary = pd.concat(parts, ignore_index=True)

    def table(part: pd.DataFrame, cell: Callable[[pd.Series], str]) -> str:
        return harness.markdown(part, "optimizer", "variables", cell)

    setting = (
        f"float32; SGD with momentum; {harness.rounds_of(summary)}. "
        f"{harness.machine()}.\n\n"
        "Milliseconds a step, median (quartiles), and how many times as fast as "
        "Keras's optimizer of the same name:\n\n"
    )
    rivals = summary[~summary["optimizer"].str.startswith("Keras ")]
    page = (
        f"{setting}{table(summary, harness.time_and_ratio)}\n"
        "Times as fast as Keras, median (quartiles) of the ratio within a round:\n\n"
        f"{table(rivals, lambda row: harness.with_spread(row, 'times_as_fast'))}"
    )
    adam = table(summary[summary["family"] == "Adam"], harness.time_and_ratio)
    figure = harness.bars(
        rivals, "optimizer", "variables", "times_as_fast", "times as fast as Keras"
    )
    harness.Report(
        "dense_step", summary, page, figure, {"dense_step:Adam": f"{setting}{adam}"}
    ).publish(options)


if __name__ == "__main__":
    main()
