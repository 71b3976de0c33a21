"""The layer `SparseDense`, whose gradient is sparse for sparse inputs."""

from keras_adaptive.layers.sparse_dense import SparseDense

__all__ = ["SparseDense"]
