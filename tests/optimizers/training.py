"""Training of the sparse problem on TensorFlow."""

import numpy as np
import tensorflow as tf
from sparse_problem import batches, variables


def one_hot(ids, values, shape):
    """What one-hot × matrix has for a gradient."""
    flat = tf.reshape(values, (values.shape[0], -1))
    hot = tf.one_hot(ids, shape[0], dtype=values.dtype)
    return tf.reshape(tf.matmul(hot, flat, transpose_a=True), shape)


def gradients(batch, model, sparse: bool):
    ids, values, cube_ids, cube_values = batch
    table, cube, bias = model
    pairs = []
    for i, v, variable in ((ids, values, table), (cube_ids, cube_values, cube)):
        v = tf.cast(v, variable.dtype)
        if sparse:
            pairs.append(tf.IndexedSlices(v, i, tf.constant(list(variable.shape))))
        else:
            pairs.append(one_hot(i, v, tuple(variable.shape)))
    return [*pairs, tf.cast(tf.reduce_sum(values, axis=0), bias.dtype)]


def scaled(gradient, scale):
    # The product of `tf.IndexedSlices` and a number would be dense.
    if isinstance(gradient, tf.IndexedSlices):
        values = gradient.values * tf.cast(scale, gradient.dtype)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return gradient * tf.cast(scale, gradient.dtype)


def stepper(optimizer, model, sparse=True, how="graph"):
    """A function of a batch that makes one step."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)

    def step(*batch):
        grads = gradients(batch, model, sparse)
        if inner is not optimizer:
            if not optimizer.built:
                optimizer.build(model)
            scale = optimizer.dynamic_scale
        else:
            scale = optimizer.loss_scale_factor
        if scale is not None:
            grads = [scaled(g, scale) for g in grads]
        optimizer.apply(grads, model)

    if how == "eager":
        compiled = step
    else:
        compiled = tf.function(step, autograph=False, jit_compile=how == "xla")
    return lambda batch: compiled(*[tf.constant(array) for array in batch])


def values(model):
    return [np.array(v.numpy(), "float64") for v in model]


def trajectory(optimizer, sparse, how="graph", steps=12, dtype="float64", flush=()):
    """The variables after each step, and last the final ones."""
    if optimizer.name.startswith("exclud"):
        optimizer.exclude_from_weight_decay(var_names=["excluded", "bias"])
    model = variables(dtype)
    step = stepper(optimizer, model, sparse, how)
    seen = []
    for number, batch in enumerate(batches(steps)):
        step(batch)
        if number in flush:
            optimizer.flush()
        seen.append(values(model))
    optimizer.finalize_variable_values(model)
    return [*seen, values(model)]


def distance(left, right) -> float:
    """The largest distance of two lists of arrays, relative to the second."""
    return np.max(
        [
            np.max(np.abs(a - b)) / max(1e-300, np.max(np.abs(b)))
            for a, b in zip(left, right, strict=True)
        ]
    )
