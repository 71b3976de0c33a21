"""Compare optimizers fairly, on your own model and data, with every run in MLflow.

A `Study` trains contenders on workloads by a protocol; its `Results` hold the tables,
the verdicts and the report. The parts are imported when they are first used. They need
the extra `study`: `pip install 'keras-adaptive[study]'`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from keras_adaptive.renamed import moved_modules

if TYPE_CHECKING:
    from keras_adaptive.datasets.dataset import Dataset as Dataset
    from keras_adaptive.datasets.dataset import Split as Split
    from keras_adaptive.errors import ClusterError as ClusterError
    from keras_adaptive.errors import InputError as InputError
    from keras_adaptive.errors import StudyError as StudyError
    from keras_adaptive.study.analysis.run_table import RunTable as RunTable
    from keras_adaptive.study.analysis.verdicts import Verdict as Verdict
    from keras_adaptive.study.compare import comparison as comparison
    from keras_adaptive.study.design.contender import Contender as Contender
    from keras_adaptive.study.design.default_models import (
        default_model as default_model,
    )
    from keras_adaptive.study.design.defaults import (
        default_batch_size as default_batch_size,
    )
    from keras_adaptive.study.design.defaults import (
        default_contenders as default_contenders,
    )
    from keras_adaptive.study.design.defaults import default_loss as default_loss
    from keras_adaptive.study.design.defaults import default_metric as default_metric
    from keras_adaptive.study.design.defaults import (
        default_workload as default_workload,
    )
    from keras_adaptive.study.design.optuna_tuner import OptunaTuner as OptunaTuner
    from keras_adaptive.study.design.protocol import Protocol as Protocol
    from keras_adaptive.study.design.setting import Setting as Setting
    from keras_adaptive.study.design.workload import Epochs as Epochs
    from keras_adaptive.study.design.workload import Steps as Steps
    from keras_adaptive.study.design.workload import Workload as Workload
    from keras_adaptive.study.execution.cluster.dask_executor import (
        DaskExecutor as DaskExecutor,
    )
    from keras_adaptive.study.execution.cluster.futures_executor import (
        FuturesExecutor as FuturesExecutor,
    )
    from keras_adaptive.study.execution.executors import InProcess as InProcess
    from keras_adaptive.study.execution.processes import Processes as Processes
    from keras_adaptive.study.results import Results as Results
    from keras_adaptive.study.study import Study as Study

_PLACES = {
    "ClusterError": "errors",
    "comparison": "study.compare",
    "Contender": "study.design.contender",
    "DaskExecutor": "study.execution.cluster.dask_executor",
    "Dataset": "datasets.dataset",
    "default_batch_size": "study.design.defaults",
    "default_contenders": "study.design.defaults",
    "default_loss": "study.design.defaults",
    "default_metric": "study.design.defaults",
    "default_model": "study.design.default_models",
    "default_workload": "study.design.defaults",
    "Epochs": "study.design.workload",
    "FuturesExecutor": "study.execution.cluster.futures_executor",
    "InProcess": "study.execution.executors",
    "InputError": "errors",
    "OptunaTuner": "study.design.optuna_tuner",
    "Processes": "study.execution.processes",
    "Protocol": "study.design.protocol",
    "Results": "study.results",
    "RunTable": "study.analysis.run_table",
    "Setting": "study.design.setting",
    "Steps": "study.design.workload",
    "Split": "datasets.dataset",
    "Study": "study.study",
    "StudyError": "errors",
    "Verdict": "study.analysis.verdicts",
    "Workload": "study.design.workload",
}

OF_ANOTHER_EXTRA = ("OptunaTuner",)
"""The names that need more than the extra `study`, so a star does not import them."""

__all__ = [name for name in _PLACES if name not in OF_ANOTHER_EXTRA]

moved_modules(
    {
        f"keras_adaptive.study.{old}": f"keras_adaptive.{new}"
        for old, new in {
            "batches": "datasets.batches",
            "datasets": "datasets",
            "datasets.bundled": "datasets.bundled",
            "datasets.dataset": "datasets.dataset",
            "datasets.rare": "datasets.rare",
            "datasets.tables": "datasets.frames",
            "defaults": "study.design.defaults",
            "models": "study.design.default_models",
            "promises": "study.analysis.promises",
            "robustness": "study.analysis.robustness",
        }.items()
    }
)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"keras_adaptive.{_PLACES[name]}"), name)
