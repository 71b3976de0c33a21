"""Sparse rows and fused updates, which only TensorFlow has."""
