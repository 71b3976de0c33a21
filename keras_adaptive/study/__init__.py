"""Compare optimizers fairly, on your own model and data, every run kept in MLflow.

A study trains contenders on workloads by a protocol; see `Study`. Its parts are
imported when they are first used. They need the extra `study`:
`pip install 'keras-adaptive[study]'`.
"""

import importlib

_PLACES = {
    "comparison": "study.compare",
    "Contender": "study.design.contender",
    "Dataset": "datasets.dataset",
    "Epochs": "study.design.workload",
    "InProcess": "study.execution.executors",
    "Processes": "study.execution.executors",
    "Protocol": "study.design.protocol",
    "Results": "study.results",
    "Steps": "study.design.workload",
    "Split": "datasets.dataset",
    "Study": "study.study",
    "StudyError": "errors",
    "Workload": "study.design.workload",
}

__all__ = list(_PLACES)


def __getattr__(name: str):
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"keras_adaptive.{_PLACES[name]}"), name)
