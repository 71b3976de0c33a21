"""Processes with one backend of Keras each."""

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
import pandas as pd

from benchmarks import BACKEND_OF_PROCESS, harness

BACKENDS = {"tensorflow": "TensorFlow", "torch": "PyTorch", "jax": "JAX"}
"""The names of the backends, as in tables."""


def add_option(
    parser: argparse.ArgumentParser, choices: Sequence[str] = tuple(BACKENDS)
) -> None:
    """Adds the option `--backends`."""
    parser.add_argument(
        "--backends", nargs="+", choices=choices, default=choices, metavar="NAME"
    )


def measured_on(
    chosen: Sequence[str], measure: Callable[..., pd.DataFrame], *arguments: Any
) -> pd.DataFrame:
    """Returns the measurements of several backends, each in a process of its own.

    Args:
        chosen: The backends.
        measure: Measures the backend that is its first argument.
        *arguments: Its other arguments.
    """
    parts = [in_process_of(each, measure, each, *arguments) for each in chosen]
    return pd.concat(parts, ignore_index=True)


def in_process_of(backend: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns the result of a function that runs in a new process with a backend."""
    os.environ[BACKEND_OF_PROCESS] = backend
    try:
        return harness.in_fresh_process(_run, backend, function, *arguments)
    finally:
        del os.environ[BACKEND_OF_PROCESS]


def _run(backend: str, function: Callable[..., Any], *arguments: Any) -> Any:
    assert keras.backend.backend() == backend
    if backend == "torch":
        use_all_cores()
    return function(*arguments)


def use_all_cores() -> None:
    """Gives PyTorch a thread a core, unless `OMP_NUM_THREADS` says how many.

    Its threads wait by spinning, so that it is many times slower on a busy machine.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(harness.threads())
