"""What the tests of fused updates share: variables, and rules that cannot be fused."""

import keras
import numpy as np

from keras_adaptive.optimizers import AdaptiveOptimizer

SHAPES = {
    "kernel": (5, 4),
    "bias": (4,),
    "cube": (3, 2, 2),
    "other": (4, 6),
    "second_kernel": (5, 4),
}


def variables(dtype="float64", shapes=SHAPES):
    rng = np.random.default_rng(3)
    return [
        keras.Variable(rng.normal(size=shape), dtype=dtype, name=name)
        for name, shape in shapes.items()
    ]


class NormClipped(AdaptiveOptimizer):
    def __init__(self, **options):
        super().__init__(0.1, **options)

    def rule(self, gradient, state, hyper):
        norm = keras.ops.sqrt(keras.ops.sum(gradient**2))
        return hyper.learning_rate * gradient / keras.ops.maximum(norm, 1.0), state


class SmallRowsNormed(AdaptiveOptimizer):
    """Looks at whole rows, but only at those that are small."""

    def __init__(self, **options):
        super().__init__(0.1, **options)

    def rule(self, gradient, state, hyper):
        squares = keras.ops.sum(gradient**2, axis=-1, keepdims=True)
        norm = keras.ops.sqrt(squares)
        norm = keras.ops.where(norm < 1, norm, keras.ops.ones_like(norm))
        return hyper.learning_rate * gradient / norm, state


class PerAxis(AdaptiveOptimizer):
    """Another step for vectors than for matrices."""

    def __init__(self, **options):
        super().__init__(0.1, **options)

    def rule(self, gradient, state, hyper):
        return hyper.learning_rate * gradient * len(gradient.shape), state
