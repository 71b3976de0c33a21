"""One of two workers on this machine; prints how far they end from one device.

Arguments: the number of this worker and the ports of both.
"""

import json
import os
import sys

number, *ports = sys.argv[1:]
os.environ["TF_CONFIG"] = json.dumps(
    {
        "cluster": {"worker": [f"127.0.0.1:{port}" for port in ports]},
        "task": {"type": "worker", "index": int(number)},
    }
)

import tensorflow as tf  # noqa: E402

STRATEGY = tf.distribute.MultiWorkerMirroredStrategy()

from problem import BATCH, CASES, EPOCHS, build, data, distance, train  # noqa: E402


def main() -> None:
    """A loop of its own: Keras's `fit` does not know several workers."""
    make = CASES["AdamW"]
    with STRATEGY.scope():
        model = build(make())
        model.optimizer.build(model.trainable_variables)
    batches = STRATEGY.experimental_distribute_dataset(
        tf.data.Dataset.from_tensor_slices(data()).batch(BATCH)
    )

    def step(ids, targets):
        with tf.GradientTape() as tape:
            errors = model(ids, training=True) - targets
            loss = tf.reduce_sum(errors**2) / BATCH
        variables = model.trainable_variables
        gradients = tape.gradient(loss, [v.value for v in variables])
        model.optimizer.apply(gradients, variables)

    step = tf.function(step)
    for _ in range(EPOCHS):
        for batch in batches:
            STRATEGY.run(step, args=batch)
    if number == "0":
        print(json.dumps({"AdamW": distance(model.get_weights(), train(make))}))


if __name__ == "__main__":
    main()
