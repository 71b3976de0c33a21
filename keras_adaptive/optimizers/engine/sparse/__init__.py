"""Sparse gradients, row by row: the same algorithm on each backend that has them."""
