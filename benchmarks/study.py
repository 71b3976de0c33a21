"""Runs a minute of a whole study, compared with a loop over `model.fit`.

    python -m benchmarks.study

A study is timed from the start of its process to its verdicts: imports, compilation,
training, validation, test and MLflow. A loop is timed without its imports, over fewer
runs, which train, validate and test the same model. Every measurement has a process of
its own.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits as digits_of_sklearn

from benchmarks import backends, harness

BATCH_SIZE = 32
CLASSES = 10
CONTENDERS = ["adam", "keras/adam", "adagrad", "rmsprop"]
LOOPS = {"tensorflow": "loop over fit, TensorFlow", "jax": "loop over fit, JAX"}
NO_CACHE = "study, compiled"
CACHED = "study, compiled before"


class Problem(NamedTuple):
    """A model with data.

    Args:
        name: Its name.
        build: Makes the model from a seed.
        rows: Makes features and labels of a number of rows.
        train_rows: The number of training rows; a quarter as many validate and test.
        epochs: The epochs of a run.
        rates: The learning rates of each contender.
        seeds: The seeds, to tune and to judge.
        looped: The runs of the loop.
    """

    name: str
    build: Callable[[int], keras.Model]
    rows: Callable[[int], tuple[np.ndarray, np.ndarray]]
    train_rows: int
    epochs: int
    rates: int
    seeds: int
    looped: int


def dense(inputs: int, units: int) -> Callable[[int], keras.Model]:
    """Returns a builder of a network with one hidden layer."""

    def build(seed: int) -> keras.Model:
        first = keras.initializers.GlorotUniform(seed)
        last = keras.initializers.GlorotUniform(seed + 1)
        return keras.Sequential(
            [
                keras.Input((inputs,)),
                keras.layers.Dense(units, "relu", kernel_initializer=first),
                keras.layers.Dense(CLASSES, kernel_initializer=last),
            ]
        )

    return build


def embedding(words: int, width: int) -> Callable[[int], keras.Model]:
    """Returns a builder of a network on texts of word numbers."""

    def build(seed: int) -> keras.Model:
        first = keras.initializers.RandomUniform(-0.05, 0.05, seed)
        last = keras.initializers.GlorotUniform(seed + 1)
        return keras.Sequential(
            [
                keras.Input((50,), dtype="int32"),
                keras.layers.Embedding(words, width, embeddings_initializer=first),
                keras.layers.GlobalAveragePooling1D(),
                keras.layers.Dense(CLASSES, kernel_initializer=last),
            ]
        )

    return build


def digits(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns images of digits."""
    x, y = digits_of_sklearn(return_X_y=True)
    return (x[:count] / 16).astype("float32"), y[:count]


def images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns random images, as large as those of Fashion-MNIST."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(count, 784)).astype("float32")
    return x, x[:, :CLASSES].argmax(axis=1)


def texts(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns random texts, whose class decides some of their words."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, CLASSES, count)
    x = generator.zipf(1.3, size=(count, 50)) % 2_000
    x[:, :5] = 100 + y[:, None]
    return x.astype("int32"), y


PROBLEMS = [
    Problem("digits: 64-64-10", dense(64, 64), digits, 1_180, 10, 9, 10, 8),
    Problem("images: 784-256-10", dense(784, 256), images, 4_000, 5, 5, 3, 4),
    Problem(
        "texts: embedding 2,000 × 16", embedding(2_000, 16), texts, 2_000, 5, 9, 10, 4
    ),
]
QUICK_PROBLEMS = [Problem("tiny: 64-4-10", dense(64, 4), digits, 200, 1, 3, 1, 1)]


BY_NAME = {problem.name: problem for problem in [*PROBLEMS, *QUICK_PROBLEMS]}


def loop(name: str) -> tuple[int, float]:
    """Returns the runs of a plain loop over `fit`, and its seconds."""
    problem = BY_NAME[name]
    quarter = problem.train_rows // 4
    x, y = problem.rows(problem.train_rows + 2 * quarter)
    ends = [problem.train_rows, problem.train_rows + quarter]
    (x_train, x_valid, x_test), (y_train, y_valid, y_test) = (
        np.split(part, ends) for part in (x, y)
    )
    start = time.perf_counter()
    for run in range(problem.looped):
        model = problem.build(run)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.001), loss, metrics=["accuracy"])
        model.fit(
            x_train,
            y_train,
            batch_size=BATCH_SIZE,
            epochs=problem.epochs,
            validation_data=(x_valid, y_valid),
            verbose=0,
        )
        model.evaluate(x_test, y_test, verbose=0)
    return problem.looped, time.perf_counter() - start


def study(name: str, folder: str, cache: str) -> int:
    """Returns the number of runs of a study.

    Args:
        name: The problem.
        folder: Where the study is made.
        cache: The folder of compiled programs.
    """
    problem = BY_NAME[name]
    from keras_adaptive.study import Dataset, Epochs, Protocol, Split, Study, Workload

    os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    os.chdir(folder)
    quarter = problem.train_rows // 4
    x, y = problem.rows(problem.train_rows + 2 * quarter)
    ends = [problem.train_rows, problem.train_rows + quarter]
    parts = [
        Split(*both) for both in zip(np.split(x, ends), np.split(y, ends), strict=True)
    ]
    workload = Workload(
        "benchmark",
        problem.build,
        Dataset("benchmark", "made here", *parts),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch_size=BATCH_SIZE,
        budget=Epochs(problem.epochs),
    )
    protocol = Protocol(
        tuning_trials=problem.rates,
        tuning_seeds=problem.seeds,
        seeds=problem.seeds,
        reference=CONTENDERS[1],
        widening_trials=0,
        timed_runs=0,
    )
    made = Study("benchmark", [workload], CONTENDERS, protocol)
    results = made.run(runner="compiled")
    engines = {each.params["engine"] for each in results.records}
    assert engines == {"compiled"}, "Some runs were made by fit."
    results.verdicts()
    return len(results.runs)


def measure(problem: Problem) -> pd.DataFrame:
    """Measures the loops and the studies of a problem."""
    records = []

    def add(way: str, runs: int, seconds: float) -> None:
        print(f"{problem.name}, {way}: {60 * runs / seconds:.0f} a minute", flush=True)
        records.append({"way": way, "runs": runs, "seconds": seconds})

    for backend, way in LOOPS.items():
        add(way, *backends.in_process_of(backend, loop, problem.name))
    with tempfile.TemporaryDirectory() as cache:
        for way in (NO_CACHE, CACHED):
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                places = folder, cache
                runs = backends.in_process_of(
                    "tensorflow", study, problem.name, *places
                )
                add(way, runs, time.perf_counter() - start)
    return pd.DataFrame(records).assign(problem=problem.name)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = harness.parser(__doc__).parse_args(argv)
    problems = QUICK_PROBLEMS if options.quick else PROBLEMS
    measured = pd.concat([measure(problem) for problem in problems], ignore_index=True)
    report(measured.assign(a_minute=60 * measured.runs / measured.seconds)).publish(
        options
    )


def report(measured: pd.DataFrame) -> harness.Report:
    """Returns the measurements in words and a table."""
    rates = measured.pivot(index="problem", columns="way", values="a_minute")

    def cell(row: pd.Series) -> str:
        text = harness.number(row.a_minute)
        if row.way in LOOPS.values():
            return f"{text} ({row.runs} runs)"
        of_problem = rates.loc[row.problem]
        times = [
            f"{harness.number(row.a_minute / of_problem[way])}×"
            for way in LOOPS.values()
        ]
        return f"{text} ({row.runs} runs); {', '.join(times)}"

    table = harness.markdown(measured, "problem", "way", cell)
    page = (
        f"Batches of {BATCH_SIZE}; contenders: {', '.join(CONTENDERS)}. "
        f"{harness.machine()}.\n\n"
        "Runs a minute. A study: with everything from the start of its process, and "
        "how many times as many as the loops over `fit` on TensorFlow and on JAX make. "
        "Once with an empty folder of compiled programs, once with a filled one.\n\n"
        f"{table}"
    )
    return harness.Report("study", measured, page)


if __name__ == "__main__":
    main()
