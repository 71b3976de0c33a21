"""Layers whose gradients are sparse."""

from keras_adaptive.layers.sparse_dense import SparseDense

__all__ = ["SparseDense"]
