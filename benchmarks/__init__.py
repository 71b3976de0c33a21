"""Benchmarks of speed and memory beside peers; `docs/speed.md` has the results."""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
