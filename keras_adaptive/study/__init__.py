"""Compare optimizers fairly, on your own model and data, every run kept in MLflow.

A study trains contenders on workloads by a protocol; see `Study`. Its parts are
imported when they are first used. They need the extra `study`:
`pip install 'keras-adaptive[study]'`.
"""

import importlib

_PLACES = {
    "comparison": "compare",
    "Contender": "contender",
    "Dataset": "datasets.dataset",
    "Epochs": "workload",
    "InProcess": "executors",
    "Processes": "executors",
    "Protocol": "protocol",
    "Results": "results",
    "Steps": "workload",
    "Split": "datasets.dataset",
    "Study": "study",
    "StudyError": "errors",
    "Workload": "workload",
}

__all__ = list(_PLACES)


def __getattr__(name: str):
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
