"""One training run in MLflow: how its record is written and read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import TypeVar

from keras_adaptive.errors import InputError, needs_extra
from keras_adaptive.study.ledger.record import Record
from keras_adaptive.study.ledger.run_values import (
    MARKS,
    Measurement,
    curve_of,
    identity,
    is_curve,
    measurements,
    non_finite,
    setting_of,
    tags_of,
)

with needs_extra("study"):
    from mlflow import MlflowClient
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run

METRICS_PER_BATCH = 900
PARAMS_PER_BATCH = 100
"""MLflow takes at most 1,000 items at once, among them 100 parameters."""

Item = TypeVar("Item")


def write_run(
    client: MlflowClient,
    experiment_id: str,
    parent_id: str,
    record: Record,
    verify: Callable[[], None],
) -> Run:
    """Writes a run, its status last.

    Args:
        client: The client of MLflow.
        experiment_id: MLflow's id of the experiment.
        parent_id: MLflow's id of the study's run.
        record: The run.
        verify: Raises an error if this process may not write any more. The run is
            then deleted.

    Returns:
        MLflow's description of the run.
    """
    measured = measurements(record)
    run = client.create_run(
        experiment_id,
        start_time=record.started,
        tags=tags_of(record, measured) | {"mlflow.parentRunId": parent_id},
        run_name=f"{record.contender} lr={record.setting.learning_rate:g} "
        f"seed={record.seed}",
    )
    run_id = run.info.run_id
    params = record.params | identity(record)
    batches = zip_longest(
        _chunks([Param(*each) for each in params.items()], PARAMS_PER_BATCH),
        _chunks(_metrics(measured), METRICS_PER_BATCH),
    )
    for some_params, some_metrics in batches:
        client.log_batch(run_id, metrics=some_metrics or [], params=some_params or [])
    client.log_inputs(run_id, [_dataset_of(record)])
    try:
        verify()
    except InputError:
        client.delete_run(run_id)
        raise
    status = "FAILED" if record.status == "failed" else "FINISHED"
    client.set_terminated(run_id, status, end_time=record.ended)
    return run


def read_run(client: MlflowClient, run: Run) -> Record:
    """Reads the record of a run.

    Args:
        client: The client of MLflow.
        run: MLflow's description of the run.
    """
    tags, last = run.data.tags, run.data.metrics
    lost = list(non_finite(tags, run.info.end_time))
    history = [
        Measurement(name, each.value, each.timestamp, each.step)
        for name in filter(is_curve, last)
        for each in client.get_metric_history(run.info.run_id, name)
    ]
    numbers = last | {each.name: each.value for each in lost}
    return Record(
        key=tags["key"],
        workload=tags["workload"],
        contender=tags["contender"],
        setting=setting_of(tags),
        phase=tags["phase"],
        seed=int(tags["seed"]),
        metric=tags["metric"],
        direction=tags["direction"],
        status=tags["status"],
        reason=tags.get("reason", ""),
        started=run.info.start_time,
        ended=run.info.end_time,
        params={k: v for k, v in run.data.params.items() if k not in MARKS},
        numbers={k: v for k, v in numbers.items() if not is_curve(k)},
        curve=curve_of(history + [each for each in lost if is_curve(each.name)]),
    )


def _metrics(measured: Sequence[Measurement]) -> list[Metric]:
    """Returns the values that MLflow can store as metrics."""
    return [Metric(*each) for each in measured if math.isfinite(each.value)]


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _dataset_of(record: Record) -> DatasetInput:
    used = MetaDataset(
        CodeDatasetSource({"mlflow.source.name": record.params["data_source"]}),
        name=record.params["data"],
        digest=record.params["data_digest"],
    ).to_dict()
    return DatasetInput(
        Dataset(
            name=used["name"],
            digest=used["digest"],
            source_type=used["source_type"],
            source=used["source"],
        ),
        [InputTag("mlflow.data.context", "training")],
    )
