"""Prints how far two replicas end from one device, as JSON."""

import functools
import json
import sys
import warnings
from pathlib import Path

import tensorflow as tf

CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    CPU, [tf.config.LogicalDeviceConfiguration()] * 2
)

import keras  # noqa: E402
from problem import CASES, build, distance, fit, train  # noqa: E402

from keras_adaptive import optimizers  # noqa: E402


def strategy():
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def two_replicas():
    return strategy().scope()


@functools.cache
def alone(name: str):
    """The weights after training on one device."""
    return train(CASES[name])


def checkpoint_from(first, second, folder: Path) -> float:
    """Three epochs of which the last two are trained elsewhere, against all in one."""
    with first():
        model = build(CASES["AdamW"]())
    fit(model, epochs=1)
    file = folder / "model.keras"
    model.save(file)
    with second():
        model = keras.models.load_model(file)
    return distance(fit(model, epochs=2), alone("AdamW"))


def one_device():
    return tf.device("CPU:0")


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    found = {
        name: distance(train(make, two_replicas), alone(name))
        for name, make in CASES.items()
    }
    found["checkpoint to two"] = checkpoint_from(one_device, two_replicas, folder)
    found["checkpoint to one"] = checkpoint_from(two_replicas, one_device, folder)
    # Deferred is dense there.
    found["deferred"] = distance(
        train(lambda: optimizers.Adam(0.01), two_replicas), alone("Adam")
    )
    try:
        train(lambda: optimizers.Adam(0.01, sparse="lazy"), two_replicas)
    except ValueError as error:
        found["lazy"] = str(error)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
