"""One training run in MLflow: how its record is written and read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TypeVar

from keras_adaptive.errors import InputError, needs_extra
from keras_adaptive.study.ledger.curve_tags import curve_of_tags, tags_of_curve
from keras_adaptive.study.ledger.record import Point, Record
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
from keras_adaptive.study.ledger.safe_names import (
    LONGEST_NAME,
    encodable,
    safe_names,
    tags_of_names,
    true_name,
)

with needs_extra("study"):
    from mlflow import MlflowClient
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run

METRICS_PER_BATCH = 900
PARAMS_PER_BATCH = 100
"""MLflow takes at most 1,000 items at once, among them 100 parameters."""

LONGEST_DATASET_NAME = 500

Item = TypeVar("Item")


def write_run(
    client: MlflowClient,
    experiment_id: str,
    parent_id: str,
    record: Record,
    verify: Callable[[], None],
) -> str:
    """Writes a run, its status last.

    Args:
        client: The client of MLflow.
        experiment_id: MLflow's id of the experiment.
        parent_id: MLflow's id of the study's run.
        record: The run.
        verify: Raises an error if this process may not write any more. The run is
            then deleted.

    Returns:
        MLflow's id of the run.
    """
    params = record.params | identity(record)
    measured = measurements(record)
    safe = safe_names([record.metric, *params, *(each.name for each in measured)])
    measured = [each._replace(name=safe[each.name]) for each in measured]
    tags = tags_of(record, measured) | tags_of_names(safe)
    tags |= {"metric": safe[record.metric], **tags_of_curve(record.curve)}
    name = f"{record.contender} lr={record.setting.learning_rate:g} seed={record.seed}"
    run_id: str = client.create_run(
        experiment_id,
        start_time=record.started,
        tags=_encodable(tags) | {"mlflow.parentRunId": parent_id},
        run_name=encodable(name[-LONGEST_NAME:]),
    ).info.run_id
    params = _encodable({safe[key]: value for key, value in params.items()})
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
    return run_id


def read_run(client: MlflowClient, run: Run) -> Record:
    """Reads the record of a run.

    Args:
        client: The client of MLflow.
        run: MLflow's description of the run.
    """
    tags = run.data.tags
    true = {
        name: true_name(name, tags) for name in (*run.data.metrics, *run.data.params)
    }
    last = {true[name]: value for name, value in run.data.metrics.items()}
    params = {true[name]: value for name, value in run.data.params.items()}
    lost = [
        each._replace(name=true_name(each.name, tags))
        for each in non_finite(tags, run.info.end_time)
    ]
    numbers = last | {each.name: each.value for each in lost}
    return Record(
        key=tags["key"],
        workload=tags["workload"],
        contender=tags["contender"],
        setting=setting_of(tags),
        phase=tags["phase"],
        seed=int(tags["seed"]),
        metric=true_name(tags["metric"], tags),
        direction=tags["direction"],
        status=tags["status"],
        reason=tags.get("reason", ""),
        started=run.info.start_time,
        ended=run.info.end_time,
        params={k: v for k, v in params.items() if k not in MARKS},
        numbers={k: v for k, v in numbers.items() if not is_curve(k)},
        curve=_curve(client, run, true, lost),
    )


def _curve(
    client: MlflowClient, run: Run, true: Mapping[str, str], lost: Sequence[Measurement]
) -> tuple[Point, ...]:
    """Returns a curve from the tags of its run, or by a request for each metric."""
    curve = curve_of_tags(run.data.tags)
    if curve is not None:
        return curve
    history = [
        Measurement(true[name], each.value, each.timestamp, each.step)
        for name in run.data.metrics
        if is_curve(true[name])
        for each in client.get_metric_history(run.info.run_id, name)
    ]
    return curve_of(history + [each for each in lost if is_curve(each.name)])


def _metrics(measured: Sequence[Measurement]) -> list[Metric]:
    """Returns the values that MLflow can store as metrics."""
    return [Metric(*each) for each in measured if math.isfinite(each.value)]


def _encodable(values: Mapping[str, str]) -> dict[str, str]:
    return {name: encodable(str(value)) for name, value in values.items()}


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _dataset_of(record: Record) -> DatasetInput:
    used = MetaDataset(
        CodeDatasetSource(
            {"mlflow.source.name": encodable(record.params["data_source"])}
        ),
        name=encodable(record.params["data"])[:LONGEST_DATASET_NAME],
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
