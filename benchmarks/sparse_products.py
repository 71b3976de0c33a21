"""From where on products with matrices in compressed rows are the faster way.

    python -m benchmarks.sparse_products

Behind the constant `MANY` of `csr_products.py`, which is set here so
that a product goes one way, or the other. The sparse matrix is a batch of texts: 128
words in each, by Zipf's law. The sum over equal ids is that of the gradient of an
`Embedding`, the transposed product what `SparseDense` does on its way back.
"""

from collections.abc import Callable, Iterator, Sequence
from unittest import mock

import numpy as np
import pandas as pd
import tensorflow as tf

from benchmarks import harness
from keras_adaptive.optimizers.engine.tensorflow import csr_products as sparse_products

WORDS, VOCABULARY, WIDTH = 128, 100_000, 64
WAYS = {"coordinates": 2**31 - 1, "compressed rows": 0}
TEXTS = [1, 2, 4, 8, 16, 32, 64, 128]
QUICK_TEXTS = [1, 2]


def operations(texts: int) -> dict[str, Callable[[], tf.Tensor]]:
    generator = np.random.default_rng(0)
    ids = (VOCABULARY ** generator.random((texts, WORDS))).astype(int) - 1
    unique, places = np.unique(ids, return_inverse=True)

    def numbers(*shape):
        return tf.Variable(generator.normal(size=shape), dtype=tf.float32)

    rows, places = np.repeat(np.arange(texts), WORDS), places.ravel()
    indices = tf.Variable(np.stack([rows, places], axis=1))
    values, gradient = numbers(ids.size), numbers(ids.size, WIDTH)
    upstream = numbers(texts, WIDTH)

    def matrix():
        return tf.SparseTensor(indices, values, (texts, len(unique)))

    return {
        "sum over equal ids": lambda: sparse_products.segment_sum(
            tf.convert_to_tensor(gradient),
            indices[:, 1],
            tf.constant(len(unique), tf.int64),
        ),
        "transposed product": lambda: sparse_products.transposed_product(
            matrix(), tf.convert_to_tensor(upstream)
        ),
    }


def steps(operation: Callable, many: int) -> Iterator:
    step = tf.function(operation, autograph=False)
    with mock.patch.object(sparse_products, "MANY", many):
        step.get_concrete_function()
    while True:
        yield step()


def summarize(operation: str, samples: pd.DataFrame) -> pd.DataFrame:
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
        f"{sparse_products.MANY:,}.\n\n{table}"
    )
    harness.Report("sparse_products", summary, page).publish(options)


if __name__ == "__main__":
    main()
