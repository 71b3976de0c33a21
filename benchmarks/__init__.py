"""Benchmarks of speed and memory beside peers; `docs/speed.md` has the results."""

import os

BACKEND_OF_PROCESS = "KERAS_ADAPTIVE_BENCHMARK_BACKEND"
"""The variable by which `backends` tells its processes their backend."""

os.environ["KERAS_BACKEND"] = os.environ.get(BACKEND_OF_PROCESS, "tensorflow")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("KERAS_TORCH_DEVICE", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
