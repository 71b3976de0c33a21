"""The commands of `keras-adaptive`, and their options."""
