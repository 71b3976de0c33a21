"""Sums of rows with equal ids: a product with a sparse matrix, or a sum over segments.

    python -m benchmarks.segment_sum

Behind `keras_adaptive/csr.py`. The gradient of a table comes with a row for each id of
the batch, and rows of equal ids are summed before an update. `tf.unique` belongs to
every way, and is timed by itself as well.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
import tensorflow as tf

from benchmarks import harness
from keras_adaptive import csr

WIDTH = 64
UNSORTED = "tf.math.unsorted_segment_sum"
CASES = {
    "1,024 of 10⁶, uniform": (1024, 10**6, False),
    "8,192 of 10⁵, uniform": (8192, 10**5, False),
    "16,384 of 10⁵, by Zipf's law": (16_384, 10**5, True),
}
QUICK_CASES = {"64 of 100, uniform": (64, 100, False)}


def unsorted(ids: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    unique, place = tf.unique(ids)
    return tf.math.unsorted_segment_sum(values, place, tf.size(unique))


def scattered(ids: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    unique, place = tf.unique(ids)
    return tf.scatter_nd(place[:, None], values, [tf.size(unique), WIDTH])


def compressed(ids: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    unique, place = tf.unique(ids, tf.int64)
    return csr.segment_sum(values, place, tf.size(unique, tf.int64))


WAYS = {
    UNSORTED: unsorted,
    "tf.scatter_nd": scattered,
    "csr.segment_sum": compressed,
    "tf.unique alone": lambda ids, values: tf.unique(ids),
}


def steps(way: Callable, count: int, height: int, zipf: bool) -> Iterator:
    """Endless sums, each of another batch of ids."""
    generator = np.random.default_rng(0)
    uniform = generator.random((20, count))
    ids = (height**uniform if zipf else height * uniform).astype(int)
    batches = [tf.constant(batch) for batch in np.minimum(ids, height - 1)]
    values = tf.constant(generator.normal(size=(count, WIDTH)), tf.float32)
    step = tf.function(way, autograph=False)
    while True:
        for batch in batches:
            yield step(batch, values)


def summarize(case: str, samples: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {"way": way, "case": case, "rounds": len(samples)}
        | harness.quartiles(
            milliseconds=samples[way],
            times_as_fast=samples[UNSORTED] / samples[way],
        )
        for way in WAYS
    )


def main(argv: Sequence[str] | None = None) -> None:
    options = harness.parser(__doc__).parse_args(argv)
    parts = []
    for case, problem in (QUICK_CASES if options.quick else CASES).items():
        contenders = {name: steps(way, *problem) for name, way in WAYS.items()}
        samples = harness.measure(contenders, seconds=0 if options.quick else 8)
        parts.append(summarize(case, samples))
    summary = pd.concat(parts, ignore_index=True)
    table = harness.markdown(summary, "way", "case", harness.time_and_ratio)
    page = (
        f"float32, rows of {WIDTH}; {harness.rounds_of(summary)}. "
        f"{harness.machine()}.\n\nMilliseconds, median (quartiles), and how many times "
        f"as fast as `{UNSORTED}`:\n\n{table}"
    )
    harness.Report("segment_sum", summary, page).publish(options)


if __name__ == "__main__":
    main()
