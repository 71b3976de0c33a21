"""Trains on one replica and on two, and prints as JSON how far apart they end.

A script, since TensorFlow divides a CPU only before it is first used.
"""

import contextlib
import json
import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf
from tensorflow.config import LogicalDeviceConfiguration

from keras_adaptive.optimizers import SAM, SGD, AdaBound, Adam, Lookahead, Mechanic
from keras_adaptive.optimizers import ScheduleFreeSGD as ScheduleFree

MAKE = {
    "adam": lambda: Adam(0.05),
    # The rate of which it makes a variable is one on each replica.
    "adabound": lambda: AdaBound(0.05, sparse="dense"),
    "lookahead": lambda: Lookahead(Adam(0.05), 3),
    "sam-theirs": lambda: SAM(keras.optimizers.SGD(0.05), rho=0.5),
    "mechanic": lambda: Mechanic(ScheduleFree(1.0, sparse="dense"), s_init=0.01),
    "lookahead-sam-mechanic": lambda: Lookahead(
        SAM(Mechanic(SGD(1.0), s_init=0.01, s_decay=0.01), rho=0.5), 2
    ),
    "loss-scale": lambda: keras.optimizers.LossScaleOptimizer(
        SAM(Adam(0.05), rho=0.5), 8.0
    ),
}
rng = np.random.default_rng(0)
IDS, TARGETS = rng.integers(0, 6, (40, 3)), rng.normal(size=(40, 1))


def trained(make, strategy) -> keras.Model:
    keras.utils.set_random_seed(0)
    with strategy.scope() if strategy else contextlib.nullcontext():
        inputs = keras.Input((3,), dtype="int32")
        x = keras.layers.Flatten()(keras.layers.Embedding(6, 2)(inputs))
        model = keras.Model(inputs, keras.layers.Dense(1)(x))
        model.compile(make(), "mse")
    # An odd number of batches: SAM ends in the middle of a step.
    model.fit(IDS, TARGETS, batch_size=8, shuffle=False, verbose=0)
    return model


def largest(left, right) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(left, right, strict=True))


def replica(model, strategy, i):
    weights = [variable.value for variable in model.trainable_variables]
    return [strategy.experimental_local_results(w)[i].numpy() for w in weights]


def summed_though_one_object(strategy) -> list[float]:
    """The weights after two accumulated calls with one tensor from both replicas."""
    with strategy.scope():
        weights = keras.Variable(np.zeros(2, "float32"))
        optimizer = SGD(1.0, gradient_accumulation_steps=2)
        optimizer.build([weights])
    gradient = tf.ones(2)

    @tf.function
    def call() -> None:
        strategy.run(lambda: optimizer.apply([gradient], [weights]))

    call()
    call()
    return weights.numpy().tolist()


def main() -> None:
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [LogicalDeviceConfiguration()] * 2)
    strategy, found = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), {}
    for name, make in MAKE.items():
        one, two = trained(make, None), trained(make, strategy)
        first, second = (replica(two, strategy, i) for i in range(2))
        found[name] = {
            "moved": largest(one.get_weights(), trained_not_at_all()),
            "from_one_replica": largest(first, one.get_weights()),
            "from_each_other": largest(first, second),
        }
    found["one object"] = summed_though_one_object(strategy)
    print(json.dumps(found))


def trained_not_at_all():
    return trained(lambda: SGD(0.0), None).get_weights()


if __name__ == "__main__":
    main()
