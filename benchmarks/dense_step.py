"""Time of one optimizer step with dense gradients, side by side with peers.

    python -m benchmarks.dense_step
    python -m benchmarks.dense_step --families Adam Lion --seconds 60

A step is `optimizer.apply` in a `tf.function` that nothing compiles, as in `fit` on a
CPU. Beside Adam and Adagrad stands what moves as many bytes in the same way, and hardly
computes anything. torch's Adam, fused and foreach, and optax's under `jax.jit` with
donated buffers take part where they are installed, all with a thread for each core.
"""

import functools
import gc
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

import keras_adaptive
from benchmarks import harness
from keras_adaptive.optimizers.contract.slot import Slot

LEARNING_RATE = 1e-3
FAMILIES = {
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
    """Keeps a sum of gradients, for nothing."""

    slots = {"first": Slot()}

    def rule(self, gradient, state, hyper):
        sums = {name: 0.9 * old + gradient for name, old in state.items()}
        return hyper.learning_rate * gradient, sums


class TwoSums(OneSum):
    """Keeps two."""

    slots = {"first": Slot(), "second": Slot()}


AS_MANY_BYTES = {"Adam": TwoSums, "Adagrad": OneSum}


class Case(NamedTuple):
    """Variables of a model: `layers` times a kernel, and a bias if there are more."""

    layers: int
    side: int

    @property
    def shapes(self) -> list[tuple[int, ...]]:
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
    """Variables, and a gradient for each that stays the same."""

    def __init__(self, case: Case):
        generator = np.random.default_rng(0)

        def numbers():
            return [generator.normal(size=s).astype("float32") for s in case.shapes]

        self.case = case
        self.start, self.slopes = numbers(), numbers()
        self.variables = [keras.Variable(start) for start in self.start]
        # Read anew in each step: of small constants TensorFlow would compute ahead.
        self.gradients = [tf.Variable(slope, trainable=False) for slope in self.slopes]


def keras_steps(optimizer: keras.optimizers.Optimizer, problem: Problem) -> Iterator:
    optimizer.build(problem.variables)

    @functools.partial(tf.function, autograph=False)
    def step():
        gradients = [tf.convert_to_tensor(g) for g in problem.gradients]
        optimizer.apply(gradients, problem.variables)

    while True:
        yield step()


def torch_steps(problem: Problem, way: str) -> Iterator:
    import torch

    torch.set_num_threads(harness.threads())
    parameters = [torch.nn.Parameter(torch.tensor(start)) for start in problem.start]
    for parameter, slope in zip(parameters, problem.slopes, strict=True):
        parameter.grad = torch.tensor(slope)
    optimizer = torch.optim.Adam(parameters, LEARNING_RATE, **{way: True})
    while True:
        yield optimizer.step()


def optax_steps(problem: Problem) -> Iterator:
    import jax
    import optax

    adam = optax.adam(LEARNING_RATE)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(parameters, state, gradients):
        updates, state = adam.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state

    parameters = [jax.numpy.array(start) for start in problem.start]
    gradients = [jax.numpy.array(slope) for slope in problem.slopes]
    state = adam.init(parameters)
    while True:
        parameters, state = step(parameters, state, gradients)
        yield jax.block_until_ready(parameters)


def contenders(family: str) -> dict[str, Callable[[Problem], Iterator]]:
    """The optimizers of one family, by label, as makers of endless steps."""

    def maker(module):
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
    """Quartiles of time, and of Keras's time / time."""
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
