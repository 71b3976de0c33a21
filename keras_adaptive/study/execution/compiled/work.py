"""The work of a process with Keras on JAX: it tries programs and makes runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from keras_adaptive.errors import needs_extra
from keras_adaptive.study.execution.compiled.finding import Finding
from keras_adaptive.study.execution.keras_settings import KerasSettings
from keras_adaptive.study.execution.trial import Trial
from keras_adaptive.study.execution.worker import MEMORY_LIMIT, read_data
from keras_adaptive.study.ledger.record import Record

with needs_extra("study"):
    import psutil

CACHE = "JAX_COMPILATION_CACHE_DIR"
"""JAX's own variable for the folder with compiled programs."""


def prepare(settings: KerasSettings) -> None:
    """Prepares a process, before any model is built.

    Args:
        settings: The settings of Keras in the study's own process.
    """
    import jax

    settings.apply()
    folder = os.environ.get(CACHE) or str(cache_folder())
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def cache_folder() -> Path:
    """Returns the folder with programs that were compiled before."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "keras-adaptive" / "jax"


@lru_cache
def _packs(file: str) -> Any:
    from keras_adaptive.study.execution.compiled.packs import Packs

    return Packs(read_data(file))


def attempt_pack(trials: Sequence[Trial], file: str) -> list[Record]:
    """Makes runs of one workload and contender.

    Args:
        trials: The runs.
        file: The file with the data of the workload.
    """
    records: list[Record] = _packs(file).attempt(trials)
    return records


def try_program(trials: Sequence[Trial], file: str, share_of_memory: float) -> Finding:
    """Traces the program of a contender on a workload.

    Args:
        trials: Two runs, with different learning rates if there are any.
        file: The file with the data of the workload.
        share_of_memory: The share of the free memory that a run may take.

    Returns:
        Whether the program can be made, and does the same for both learning rates.
    """
    from keras_adaptive.study.execution.compiled.tracing import traced

    try:
        free = share_of_memory * psutil.virtual_memory().available
        limit = float(os.environ.get(MEMORY_LIMIT) or free)
        return traced(_packs(file), trials, int(min(free, limit)))
    except Exception as error:
        line, *_ = str(error).strip().splitlines() or [""]
        return Finding(f"on JAX, it raises {type(error).__name__}: {line}")
