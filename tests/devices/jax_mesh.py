"""Prints how far two JAX devices end from one, as JSON."""

import json
import os
import warnings

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
os.environ["KERAS_BACKEND"] = "jax"

import keras  # noqa: E402
from problem import CASES, build, distance, fit, train  # noqa: E402


def under(distribution, make):
    """The weights after training under a distribution, and how the table lies."""
    keras.distribution.set_distribution(distribution)
    try:
        model = build(make())
        weights = fit(model)
        slots = model.optimizer._engine.states[0].slots
        table = model.layers[0].embeddings
        shardings = [v.value.sharding.spec for v in (table, *slots.values())]
    finally:
        keras.distribution.set_distribution(None)
    return weights, [str(spec) for spec in shardings]


def data_parallel():
    return keras.distribution.DataParallel(auto_shard_dataset=False)


def model_parallel():
    mesh = keras.distribution.DeviceMesh((1, 2), ("batch", "model"))
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*embeddings"] = ("model", None)
    return keras.distribution.ModelParallel(
        layout_map=layout, batch_dim_name="batch", auto_shard_dataset=False
    )


OVER_A_WHOLE_VARIABLE = ("Adam", "clipped", "Lamb", "Muon")
"""Adam stands for all classes; the others look at all parts of a table together."""


def main() -> None:
    warnings.simplefilter("ignore")
    found = {}
    for name, make in CASES.items():
        want = train(make)
        ways = [data_parallel]
        ways += [model_parallel] if name in OVER_A_WHOLE_VARIABLE else []
        for distribution in ways:
            weights, shardings = under(distribution(), make)
            found[f"{name}, {distribution.__name__}"] = distance(weights, want)
            if name == "Adam":
                found[f"shardings, {distribution.__name__}"] = shardings
    print(json.dumps(found))


if __name__ == "__main__":
    main()
