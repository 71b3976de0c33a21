"""Compare optimizers fairly, on your own model and data, every run kept in MLflow.

A study trains contenders on workloads by a protocol; see `Study`. Its parts are
imported when they are first used. They need the extra `study`:
`pip install 'keras-adaptive[study]'`.
The pieces are small and can be used one by one:

- `keras_adaptive.study.corpora`: labelled sparse data (docstrings, newsgroups,
  LIBSVM and CSV files), split and vectorized.
- `keras_adaptive.study.training`: one contender trained once with one seed.
- `keras_adaptive.study.ledger`: the record of the runs in MLflow.
- `keras_adaptive.study.results` and `keras_adaptive.study.tables`: what the runs say.
- `keras_adaptive.study.plots`: the curves of the runs.
- `keras_adaptive.study.statistics`: pure functions over arrays, infinity included.
- `keras_adaptive.study.verdicts`, `keras_adaptive.study.promises` and
  `keras_adaptive.study.robustness`: whether a promise was kept, and how sure that is.
- `keras_adaptive.study.pictures`: sensitivity, profile, ranks and effects.
- `keras_adaptive.study.report`: all that a study says, as one HTML file.
- `keras_adaptive.study.compare`: all of the above for a model of your own.

They need the extra `study`: `pip install 'keras-adaptive[study]'`.
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
