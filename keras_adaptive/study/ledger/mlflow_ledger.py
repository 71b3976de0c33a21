"""The record of a study in MLflow.

No tracking configuration of its own: the runs go where MLflow's resolution says,
`MLFLOW_TRACKING_URI` or else `mlflow.db` and `mlruns/` in the current folder, so that
a plain `mlflow ui` in that folder shows them. One experiment holds the studies of a
name, one parent run a study, one child run a training run. The study's own process
is the only writer. It writes the status of a run last: what has none is half-written.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from keras_adaptive.errors import StudyError, needs_extra
from keras_adaptive.study.design.contender import Setting
from keras_adaptive.study.ledger.record import Point, Record

with needs_extra("study"):
    import mlflow
    import psutil
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import (
        Dataset,
        DatasetInput,
        InputTag,
        Metric,
        Param,
        RunStatus,
        RunTag,
    )
    from mlflow.exceptions import MlflowException

METRICS_PER_BATCH = 900
PARAMS_PER_BATCH = 100
"""MLflow takes at most 1,000 items at once, among them 100 parameters."""

LONGEST_VALUE = 5_000
NOISY_LOGGERS = ("mlflow", "alembic")
NO_LINKS = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"
UNREACHABLE = (MlflowException, OSError)

MARKS = ("workload", "contender", "learning_rate", "seed", "phase")
SECONDS = "train_seconds"
NON_FINITE = "non_finite."
NON_FINITE_VALUE = re.compile(r"(\S+) at step (\d+)")


@contextmanager
def quiet_mlflow() -> Iterator[None]:
    """Holds back MLflow's notes about its database, and its links to every run."""
    loggers = [logging.getLogger(name) for name in NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    links = os.environ.get(NO_LINKS)
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    os.environ[NO_LINKS] = "true"
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        del os.environ[NO_LINKS]
        if links is not None:
            os.environ[NO_LINKS] = links


def flatten(config: Mapping[str, Any], prefix: str) -> dict[str, str]:
    """Flattens a nested configuration into MLflow parameters.

    Args:
        config: A `get_config()`; a schedule in it is a mapping itself.
        prefix: Put before each name, with a dot.

    Returns:
        Each value as a string, by its dotted name.
    """
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}.{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, name)
        else:
            flat[name] = str(value)[:LONGEST_VALUE]
    return flat


def identity(record: Record) -> dict[str, str]:
    """Returns what a run is filtered by, as its tags and as its parameters."""
    rate = repr(record.setting.learning_rate)
    marks = record.workload, record.contender, rate, str(record.seed), record.phase
    return dict(zip(MARKS, marks, strict=True))


class _Values:
    """The values of a run on their way to MLflow, which holds finite numbers only.

    Infinity and NaN become the tag `non_finite.<name>`, which says the step of the
    last of them.
    """

    def __init__(self):
        self.metrics: list[Metric] = []
        self.tags: dict[str, str] = {}

    def add(self, key: str, value: float, timestamp: int, step: int) -> None:
        if math.isfinite(value):
            self.metrics.append(Metric(key, value, timestamp, step))
        else:
            self.tags[NON_FINITE + key] = f"{value} at step {step}"


def _values(record: Record) -> _Values:
    values = _Values()
    for point in record.curve:
        for key, value in point.metrics.items():
            values.add(key, value, point.timestamp, point.step)
        values.add(SECONDS, point.seconds, point.timestamp, point.step)
    last = record.curve[-1].step if record.curve else 0
    for key, value in record.numbers.items():
        values.add(key, value, record.ended, last)
    return values


def _is_curve(key: str) -> bool:
    return key.startswith(("train_", "val_")) or key in ("learning_rate", "epoch")


class Ledger:
    """The MLflow experiment of a study, and the runs in it that are done.

    Args:
        experiment: Name of the experiment; it is made if there is none.
        spool: Folder for the runs that MLflow does not take. Those of earlier days
            are delivered first.

    Raises:
        StudyError: If MLflow's store cannot be used.
    """

    def __init__(self, experiment: str, spool: Path):
        self.experiment = experiment
        self._spool = spool / experiment.replace("/", "-")
        self._down = False
        self.run_id: str | None = None
        self._records: dict[str, Record] = {}
        self._runs: dict[str, mlflow.entities.Run] = {}
        with self._usable_store():
            self._client = mlflow.MlflowClient()
            found = self._client.get_experiment_by_name(experiment)
            self.experiment_id = (
                found.experiment_id
                if found
                else self._client.create_experiment(experiment)
            )
        if found and found.lifecycle_stage == "deleted":
            raise StudyError(
                f"The MLflow experiment {experiment!r} is deleted. Bring it back with "
                f"'mlflow experiments restore -x {self.experiment_id}'."
            )

    @contextmanager
    def _usable_store(self) -> Iterator[None]:
        try:
            yield
        except UNREACHABLE as error:
            raise StudyError(
                f"MLflow's store at {mlflow.get_tracking_uri()} cannot be used: "
                f"{error}. Check MLFLOW_TRACKING_URI, or unset it to keep the runs in "
                "the current folder."
            ) from error

    @contextmanager
    def open(self, title: str, tags: Mapping[str, str]) -> Iterator[Ledger]:
        """Opens the parent run of a study, the one from before if there is one.

        What an interrupted process left half-written is deleted, and what it could
        not deliver is delivered.

        Args:
            title: Name of the run.
            tags: What was asked for; may change from one opening to the next.

        Yields:
            The ledger. The run ends as FINISHED, as KILLED by an interrupt from the
            keyboard, and as FAILED, with the tag `failure`, by any other exception.

        Raises:
            StudyError: If MLflow's store cannot be used, or if another process of
                this machine has the study open.
        """
        with self._usable_store():
            self._open_parent(title, tags)
            self._read()
            self._deliver()
        status, failure = "FAILED", None
        try:
            yield self
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        except BaseException as error:
            failure = f"{type(error).__name__}: {error}"[:LONGEST_VALUE]
            raise
        finally:
            if not self._down:
                with suppress(*UNREACHABLE):
                    self._close(status, failure)

    def _close(self, status: str, failure: str | None) -> None:
        if status != "FINISHED":
            self._read()  # a run may have been broken off while it was written
        if failure:
            self._client.set_tag(self.run_id, "failure", failure)
        self._client.set_terminated(self.run_id, status)

    def _open_parent(self, title: str, tags: Mapping[str, str]) -> None:
        tags = {"phase": "study", "study": title, "driver": _this_process(), **tags}
        studies = self._search("tags.phase = 'study'")
        parents = [run for run in studies if run.data.tags.get("study") == title]
        if parents:
            driver = parents[0].data.tags["driver"]
            if driver != tags["driver"] and _alive(driver):
                raise StudyError(
                    f"The study {title!r} is being run already, by process "
                    f"{driver.split()[1]}. Wait for it, or end it first."
                )
            self.run_id = parents[0].info.run_id
            self._client.update_run(self.run_id, status="RUNNING")
        else:
            parent = self._client.create_run(self.experiment_id, run_name=title)
            self.run_id = parent.info.run_id
        tags = [RunTag(key, str(value)[:LONGEST_VALUE]) for key, value in tags.items()]
        self._client.log_batch(self.run_id, tags=tags)

    def _search(self, query: str = "") -> list[mlflow.entities.Run]:
        runs, token = [], None
        while True:
            page = self._client.search_runs(
                [self.experiment_id], query, max_results=1_000, page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def _read(self) -> None:
        """Finds the runs that are done, and deletes those that are half-written."""
        for run in self._search("tags.phase != 'study'"):
            if "key" not in run.data.tags:
                continue
            if RunStatus.is_terminated(RunStatus.from_string(run.info.status)):
                self._runs[run.data.tags["key"]] = run
            else:
                self._client.delete_run(run.info.run_id)

    def get(self, key: str) -> Record | None:
        """Returns the record of a run, or `None` if there is none."""
        if key not in self._records and key in self._runs:
            self._records[key] = self._load(self._runs[key])
        return self._records.get(key)

    def of_other_data(self, workload: str, digest: str) -> int:
        """Returns how many runs of a workload had other data than now.

        Args:
            workload: Its name.
            digest: The digest of its data.
        """
        return sum(
            run.data.tags["workload"] == workload
            and run.data.tags["data_digest"] != digest
            for run in self._runs.values()
        )

    def forget(self, key: str) -> None:
        """Deletes a run, so that it may be made again."""
        self._records.pop(key, None)
        run = self._runs.pop(key, None)
        if run is not None:
            self._client.delete_run(run.info.run_id)

    def write(self, record: Record) -> None:
        """Writes a run, to the spool if MLflow cannot be reached.

        MLflow itself tries for some minutes (`MLFLOW_HTTP_REQUEST_MAX_RETRIES`). When
        it has given up once, all further runs go to the spool.

        Args:
            record: What came of the run.
        """
        self._records[record.key] = record
        if not self._down:
            try:
                self._write(record)
                return
            except UNREACHABLE:
                self._down = True
        self._spool.mkdir(parents=True, exist_ok=True)
        part = self._spool / f"{record.key}.part"
        part.write_text(json.dumps(record.to_json()), encoding="utf-8")
        part.replace(part.with_suffix(".json"))

    @property
    def spooled(self) -> list[Path]:
        """The files with runs that are still to be delivered."""
        return sorted(self._spool.glob("*.json"))

    def _deliver(self) -> None:
        """Writes what is in the spool, unless it was written after all."""
        for file in self.spooled:
            record = Record.from_json(json.loads(file.read_text(encoding="utf-8")))
            if record.key not in self._runs:
                self._write(record)
            self._records[record.key] = record
            file.unlink()

    def _write(self, record: Record) -> None:
        marks, values = identity(record), _values(record)
        tags = {
            **marks,
            **values.tags,
            "key": record.key,
            "status": record.status,
            "metric": record.metric,
            "direction": record.direction,
            "data_digest": record.params["data_digest"],
            "mlflow.parentRunId": self.run_id,
        }
        if record.reason:
            tags["reason"] = record.reason[:LONGEST_VALUE]
        if record.setting.second is not None:
            second, value = record.setting.second
            tags |= {"second": second, second: repr(value)}
        name = (
            f"{record.contender} lr={record.setting.learning_rate:g} seed={record.seed}"
        )
        run = self._client.create_run(
            self.experiment_id, start_time=record.started, tags=tags, run_name=name
        )
        run_id = run.info.run_id
        params = [Param(key, value) for key, value in (record.params | marks).items()]
        batches = zip_longest(
            _chunks(params, PARAMS_PER_BATCH),
            _chunks(values.metrics, METRICS_PER_BATCH),
            fillvalue=[],
        )
        for some_params, some_metrics in batches:
            self._client.log_batch(run_id, metrics=some_metrics, params=some_params)
        self._client.log_inputs(run_id, [_dataset_of(record)])
        status = "FAILED" if record.status == "failed" else "FINISHED"
        self._client.set_terminated(run_id, status, end_time=record.ended)
        self._runs[record.key] = run

    def _load(self, run: mlflow.entities.Run) -> Record:
        tags, numbers = run.data.tags, {}
        points: dict[int, Point] = {}

        def put(key: str, value: float, step: int, timestamp: int) -> None:
            point = points.setdefault(step, Point(step, 0.0, timestamp, {}))
            if key == SECONDS:
                points[step] = replace(point, seconds=value)
            else:
                point.metrics[key] = value

        for key, value in run.data.metrics.items():
            if _is_curve(key):
                for each in self._client.get_metric_history(run.info.run_id, key):
                    put(key, each.value, each.step, each.timestamp)
            else:
                numbers[key] = value
        for tag, text in tags.items():
            if tag.startswith(NON_FINITE):
                key = tag.removeprefix(NON_FINITE)
                value, step = NON_FINITE_VALUE.fullmatch(text).groups()
                if _is_curve(key):
                    put(key, float(value), int(step), run.info.end_time)
                else:
                    numbers[key] = float(value)
        second = tags.get("second")
        pair = (second, float(tags[second])) if second else None
        return Record(
            key=tags["key"],
            workload=tags["workload"],
            contender=tags["contender"],
            setting=Setting(float(tags["learning_rate"]), pair),
            phase=tags["phase"],
            seed=int(tags["seed"]),
            metric=tags["metric"],
            direction=tags["direction"],
            status=tags["status"],
            reason=tags.get("reason", ""),
            started=run.info.start_time,
            ended=run.info.end_time,
            params={k: v for k, v in run.data.params.items() if k not in MARKS},
            numbers=numbers,
            curve=tuple(points[step] for step in sorted(points)),
        )


def _chunks(items: list, size: int) -> Iterator[list]:
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


def _this_process() -> str:
    """Returns what tells this process from every other."""
    process = psutil.Process()
    return f"{socket.gethostname()} {process.pid} {process.create_time()}"


def _alive(driver: str) -> bool:
    """Says whether a process of this machine is running."""
    host, _, rest = driver.partition(" ")
    pid, _, created = rest.partition(" ")
    if host != socket.gethostname() or not pid:
        return False
    with suppress(psutil.Error):
        return str(psutil.Process(int(pid)).create_time()) == created
    return False


def attach(run_id: str, path: Path, folder: str = "") -> None:
    """Stores a file with a study's run.

    Args:
        run_id: MLflow's id of the run, as in `Results.run_id`.
        path: The file.
        folder: Folder among the artifacts of the run.

    Warns:
        UserWarning: If MLflow cannot be reached. The file itself stays where it is.
    """
    try:
        mlflow.MlflowClient().log_artifact(run_id, str(path), folder)
    except UNREACHABLE as error:
        warnings.warn(
            f"MLflow could not be reached: {path} is not attached to the study's run "
            f"({error}).",
            stacklevel=3,
        )


def store_location() -> str:
    """Says where MLflow keeps the runs."""
    uri = mlflow.get_tracking_uri()
    return f"{uri} (in {os.getcwd()})" if uri.startswith("sqlite:///mlflow") else uri
