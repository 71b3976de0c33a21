"""Time of a step of `model.fit`, compared with Keras, on the three backends.

    python -m benchmarks.fit_step
    python -m benchmarks.fit_step --backends torch --families Adam Lion

Each backend has a process of its own, in which Keras's optimizer and ours of the same
name train the same model in turns. Optimizers that Keras lacks are compared with its
Adam. A sample is the mean over the steps of one call of `fit`, with the call's own
beginning and end.
"""

import gc
import time
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd

import keras_adaptive
from benchmarks import backends, harness

BATCH_SIZE = 32
CLASSES = 10
ARGUMENTS: dict[str, dict[str, float]] = {"SGD": {"momentum": 0.9}}
NAMESAKES = [
    *("Adam", "AdamW", "SGD", "RMSprop", "Adagrad", "Adamax", "Nadam", "Lion"),
    *("Adadelta", "Ftrl", "Adafactor", "Lamb", "Muon"),
]
OTHERS = [
    *("RAdam", "AdaBelief", "Yogi", "LaProp", "ADOPT", "Adan", "AdEMAMix"),
    *("ScheduleFreeAdamW", "Prodigy", "NovoGrad"),
]


class Network(NamedTuple):
    """A network of dense layers.

    Args:
        name: Its name.
        inputs: The features of an example.
        hidden: The units of each hidden layer.
        steps: The steps of a call of `fit`.
    """

    name: str
    inputs: int
    hidden: list[int]
    steps: int

    def model(self, optimizer: keras.optimizers.Optimizer) -> keras.Model:
        """Returns the network, compiled, with the same weights each time."""
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(units, "relu") for units in self.hidden]
        model = keras.Sequential(
            [keras.Input((self.inputs,)), *layers, keras.layers.Dense(CLASSES)]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss)
        return model

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the examples of one call of `fit`."""
        generator = np.random.default_rng(0)
        count = BATCH_SIZE * self.steps
        x = generator.normal(size=(count, self.inputs)).astype("float32")
        return x, generator.integers(0, CLASSES, count)


NETWORKS = [
    Network("mlp: 64-64-64-10", 64, [64, 64], 300),
    Network("wide: 512-2048-2048-10", 512, [2048, 2048], 20),
    Network("deep: 60 × 64", 64, [64] * 60, 40),
]
QUICK_NETWORKS = [Network("tiny: 4-4-10", 4, [4], 3)]


def reference_of(family: str) -> str:
    """Returns the name of the class of Keras that a class is compared with."""
    return family if family in NAMESAKES else "Adam"


def samples(family: str, network: Network, rounds: int) -> pd.DataFrame:
    """Returns milliseconds a step in each round, of Keras's class and of ours."""
    x, y = network.data()
    reference = reference_of(family)
    ours = getattr(keras_adaptive.optimizers, family)
    theirs = getattr(keras.optimizers, reference)
    models = {
        "keras": network.model(theirs(**ARGUMENTS.get(reference, {}))),
        "ours": network.model(ours(**ARGUMENTS.get(family, {}))),
    }
    milliseconds: dict[str, list[float]] = {label: [] for label in models}
    for model in models.values():
        model.fit(x, y, batch_size=BATCH_SIZE, verbose=0)
    for label in harness.in_turns(models, rounds):
        start = time.perf_counter()
        models[label].fit(x, y, batch_size=BATCH_SIZE, verbose=0)
        seconds = time.perf_counter() - start
        milliseconds[label].append(1000 * seconds / network.steps)
    return pd.DataFrame(milliseconds)


def measure(
    backend: str, families: Sequence[str], networks: Sequence[Network], rounds: int
) -> pd.DataFrame:
    """Measures one backend, in a process of its own."""
    records = []
    for network in networks:
        for family in families:
            taken = samples(family, network, rounds)
            spread = harness.quartiles(
                keras_milliseconds=taken["keras"],
                milliseconds=taken["ours"],
                times_as_fast=taken["keras"] / taken["ours"],
            )
            record = {
                "backend": backends.BACKENDS[backend],
                "model": network.name,
                "optimizer": family,
                "reference": reference_of(family),
                "rounds": rounds,
            }
            records.append(record | spread)
            print(
                f"{backends.BACKENDS[backend]}, {network.name}, {family}: "
                f"{spread['times_as_fast_median']:.2f}",
                flush=True,
            )
            keras.backend.clear_session()
            gc.collect()
    return pd.DataFrame(records)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = harness.parser(__doc__)
    backends.add_option(parser)
    parser.add_argument(
        "--families",
        nargs="+",
        choices=[*NAMESAKES, *OTHERS],
        default=[*NAMESAKES, *OTHERS],
        metavar="NAME",
    )
    parser.add_argument("--rounds", type=int, help="for each optimizer (default: 9)")
    options = parser.parse_args(argv)
    rounds = options.rounds or (2 if options.quick else 9)
    networks = QUICK_NETWORKS if options.quick else NETWORKS
    arguments = options.families, networks, rounds
    summary = backends.measured_on(options.backends, measure, *arguments)
    report(summary).publish(options)


def report(summary: pd.DataFrame) -> harness.Report:
    """Returns the measurements in words, tables and a plot."""

    def cell(row: pd.Series) -> str:
        times = f"{harness.number(row.keras_milliseconds_median)} / "
        times += harness.number(row.milliseconds_median)
        return f"{times}, {harness.with_spread(row, 'times_as_fast')}×"

    tables = harness.sections(
        summary,
        "backend",
        lambda part: harness.markdown(part, "optimizer", "model", cell),
    )
    others = summary["optimizer"][summary["optimizer"] != summary["reference"]]
    compared = f" {', '.join(others.unique())}: compared with Keras's Adam."
    page = (
        f"Batches of {BATCH_SIZE}; SGD with momentum; {harness.rounds_of(summary)}. "
        f"{harness.machine()}.\n\n"
        "Milliseconds a step of `fit` with Keras's class and with ours, and how many "
        "times as fast ours is, median (quartiles) of the ratio within a round."
        f"{compared if len(others) else ''}\n\n{tables}"
    )
    model = summary["model"].str.split(":").str[0]
    labelled = summary.assign(label=model + ", " + summary["optimizer"])
    figure = harness.bars(
        labelled, "label", "backend", "times_as_fast", "times as fast as Keras"
    )
    return harness.Report("fit_step", summary, page, figure)


if __name__ == "__main__":
    main()
