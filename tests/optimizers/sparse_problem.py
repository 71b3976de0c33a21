"""A small problem with two sparse variables, one of rank 3, and a dense one."""

import keras
import numpy as np

HEIGHT, WIDTH, COUNT = 11, 3, 9
CUBE = (7, 2, 2)


def variables(dtype="float64"):
    rng = np.random.default_rng(1)
    shapes = {"table": (HEIGHT, WIDTH), "excluded": CUBE, "bias": (WIDTH,)}
    return [
        keras.Variable(rng.normal(size=shape), dtype=dtype, name=name)
        for name, shape in shapes.items()
    ]


def batches(steps, seed=0, height=HEIGHT, count=COUNT, cube=CUBE):
    """Ids, with repetitions, and values that every float dtype can add exactly."""
    rng = np.random.default_rng(seed)

    def values(*shape):
        return rng.integers(-16, 17, shape) / 8

    return [
        (
            rng.integers(0, height, count),
            values(count, WIDTH),
            rng.integers(0, cube[0], count // 2),
            values(count // 2, *cube[1:]),
        )
        for _ in range(steps)
    ]
