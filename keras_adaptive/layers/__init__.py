"""Layers for large tables and for bags of words."""

from keras_adaptive.layers.embedding import Embedding
from keras_adaptive.layers.exchange import exchange
from keras_adaptive.layers.sparse_dense import SparseDense

__all__ = ["Embedding", "SparseDense", "exchange"]
