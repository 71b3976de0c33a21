"""Size from which products with matrices in compressed rows are faster.

    python -m benchmarks.sparse_products

The constant `MANY` of `csr_products.py` is based on this benchmark, which sets it so
that a product takes one path or the other. The sparse matrix is a batch of texts with
128 words each, by Zipf's law. The gradient of an `Embedding` needs the sum over equal
ids; the backward pass of `SparseDense` needs the transposed product.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import tensorflow as tf

from benchmarks import harness
from keras_adaptive.optimizers.engine.tensorflow import csr_products

WORDS, VOCABULARY, WIDTH = 128, 100_000, 64
WAYS = {"coordinates": 2**31 - 1, "compressed rows": 0}
TEXTS = [1, 2, 4, 8, 16, 32, 64, 128]
QUICK_TEXTS = [1, 2]


def operations(texts: int) -> dict[str, Callable[[], tf.Tensor]]:
    """Returns the two operations on a batch of texts."""
    generator = np.random.default_rng(0)
    ids = (VOCABULARY ** generator.random((texts, WORDS))).astype(int) - 1
    unique, places = np.unique(ids, return_inverse=True)

    def numbers(*shape: int) -> tf.Variable:
        return tf.Variable(generator.normal(size=shape), dtype=tf.float32)

    rows, places = np.repeat(np.arange(texts), WORDS), places.ravel()
    indices = tf.Variable(np.stack([rows, places], axis=1))
    values, gradient = numbers(ids.size), numbers(ids.size, WIDTH)
    upstream = numbers(texts, WIDTH)

    def matrix() -> tf.SparseTensor:
        return tf.SparseTensor(indices, values, (texts, len(unique)))

    return {
        "sum over equal ids": lambda: csr_products.segment_sum(
            tf.convert_to_tensor(gradient),
            indices[:, 1],
            tf.constant(len(unique), tf.int64),
        ),
        "transposed product": lambda: csr_products.transposed_product(
            matrix(), tf.convert_to_tensor(upstream)
        ),
    }


def steps(operation: Callable[[], tf.Tensor], many: int) -> Iterator[Any]:
    """Yields runs of an operation that is traced with the given `MANY`."""
    step = tf.function(operation, autograph=False)
    with mock.patch.object(csr_products, "MANY", many):
        step.get_concrete_function()
    while True:
        yield step()


def summarize(operation: str, samples: pd.DataFrame) -> pd.DataFrame:
    """Returns the quartiles of the times and of their ratio."""
    return pd.DataFrame(
        {
            "operation": operation,
            "numbers": f"{texts * WORDS * WIDTH:,}",
            "rounds": len(samples),
        }
        | harness.quartiles(
            coordinates=samples["coordinates", texts],
            compressed=samples["compressed rows", texts],
            ratio=samples["compressed rows", texts] / samples["coordinates", texts],
        )
        for texts in samples["coordinates"].columns
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = harness.parser(__doc__).parse_args(argv)
    found = {n: operations(n) for n in (QUICK_TEXTS if options.quick else TEXTS)}
    parts = []
    for name in found[1]:
        contenders = {
            (way, texts): steps(found[texts][name], many)
            for texts in found
            for way, many in WAYS.items()
        }
        samples = harness.measure(contenders, seconds=0 if options.quick else 10)
        parts.append(summarize(name, samples))
    summary = pd.concat(parts, ignore_index=True)
    table = harness.markdown(
        summary, "operation", "numbers", lambda row: harness.with_spread(row, "ratio")
    )
    page = (
        f"float32, {WORDS} words in a text, {WIDTH} columns; "
        f"{harness.rounds_of(summary)}. {harness.machine()}.\n\nTime by compressed "
        "rows over that by coordinates, median (quartiles), by numbers (entries times "
        f"columns); below 1 compressed rows are faster. MANY is "
        f"{csr_products.MANY:,}.\n\n{table}"
    )
    harness.Report("sparse_products", summary, page).publish(options)


if __name__ == "__main__":
    main()
